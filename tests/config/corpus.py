"""Small configurations, each with what ssh is asked about it."""

from __future__ import annotations

from typing import Final

import attrs


@attrs.frozen
class Case:
    """A configuration, and the arguments of ``ssh -G``."""

    text: str
    host: str = "host"
    user: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        return self.text.replace("\n", ";").strip("; ")[:60] + f" [{self.host}]"

    @property
    def arguments(self) -> list[str]:
        found = []
        if self.user is not None:
            found += ["-l", self.user]
        if self.port is not None:
            found += ["-p", str(self.port)]
        return [*found, self.host]


#: One value of each keyword that says nothing else.
SIMPLE: Final = """
AddKeysToAgent yes
AddKeysToAgent confirm
AddressFamily inet6
AddressFamily ANY
BatchMode yes
BindAddress 192.0.2.1
BindInterface eth0
CanonicalDomains a.example b.example
CanonicalizeFallbackLocal no
CanonicalizeMaxDots 3
CASignatureAlgorithms ssh-ed25519,rsa-sha2-512
CertificateFile /a/b-cert.pub
CheckHostIP yes
Ciphers aes256-ctr,aes128-ctr
Ciphers +3des-cbc
Ciphers -aes*
Ciphers -aes128-*,*poly1305*
Ciphers ^aes256-gcm@openssh.com
Ciphers ^3des-cbc,aes256-ctr
MACs hmac-sha2-512
MACs -*-etm@openssh.com
KexAlgorithms curve25519-sha256
KexAlgorithms +diffie-hellman-group1-sha1
KexAlgorithms -ecdh*,diffie*
KexAlgorithms ^ecdh-sha2-nistp521
HostKeyAlgorithms ssh-ed25519
HostKeyAlgorithms -*cert*
HostKeyAlgorithms +ssh-rsa
HostKeyAlgorithms ssh-*
PubkeyAcceptedAlgorithms -ecdsa*
PubkeyAcceptedKeyTypes ssh-ed25519
HostbasedAcceptedAlgorithms +ssh-rsa
HostbasedKeyTypes ssh-ed25519
ChallengeResponseAuthentication no
ClearAllForwardings yes
Compression yes
ConnectionAttempts 4
ConnectTimeout 90
ConnectTimeout 1m30
ConnectTimeout 1m30s
ConnectTimeout 1h
ConnectTimeout 2d
ConnectTimeout 1w
ConnectTimeout none
ControlMaster auto
ControlMaster yes
ControlPath /tmp/%r@%h:%p
ControlPath none
ControlPersist yes
DynamicForward 1080
DynamicForward localhost:1080
DynamicForward [::1]:1080
DynamicForward *:1080
DynamicForward /tmp/socks
EnableEscapeCommandline yes
EnableSSHKeysign yes
EscapeChar none
EscapeChar ^C
ExitOnForwardFailure yes
FingerprintHash md5
ForwardAgent yes
ForwardX11 yes
ForwardX11Timeout 10m
ForwardX11Trusted no
GatewayPorts yes
GlobalKnownHostsFile /a /b
GlobalKnownHostsFile none
HashKnownHosts yes
HostbasedAuthentication yes
HostKeyAlias the-alias
HostName 192.0.2.7
HostName %h.example.com
HostName Example.COM
IdentitiesOnly yes
IdentityAgent none
IdentityAgent SSH_AUTH_SOCK
IdentityAgent ~/agent
IdentityFile ~/.ssh/one
IPQoS af11 cs1
KbdInteractiveAuthentication no
KbdInteractiveDevices bsdauth,pam
KeepAlive no
KnownHostsCommand /usr/bin/keys %H
KnownHostsCommand none
LocalCommand echo %h
LocalForward 80 a:90
LocalForward 127.0.0.1:80 a:90
LocalForward [::1]:80 [::2]:90
LocalForward *:80 a:90
LocalForward :80 a:90
LocalForward 80 /tmp/socket
LocalForward /tmp/a /tmp/b
LocalForward /tmp/%h/%r b:3
LocalForward localhost/80 a/90
RemoteForward 80 a:90
RemoteForward 0 a:90
RemoteForward 1080
RemoteForward *:9 /tmp/b
LogLevel DEBUG
LogLevel quiet
LogLevel DEBUG3
NoHostAuthenticationForLocalhost yes
NumberOfPasswordPrompts 1
PasswordAuthentication no
PermitLocalCommand yes
PermitRemoteOpen a:3 b:*
PermitRemoteOpen none
PKCS11Provider /lib/x.so
Port 2222
PreferredAuthentications publickey,password
ProxyCommand nc -X 5 %h %p
ProxyCommand nc "a b" 'c' # no comment
ProxyCommand = nc %h %p
ProxyCommand none
ProxyJump bastion
ProxyJump joe@bastion:2222
ProxyJump a,b:3,c@d
ProxyJump [2001:db8::1]:22
ProxyJump ssh://joe@bastion:2222
ProxyJump ssh://bastion/
ProxyJump none
ProxyUseFdpass yes
PubkeyAuthentication no
PubkeyAuthentication host-bound
RekeyLimit 1G 1h
RekeyLimit 512M
RekeyLimit default none
RekeyLimit default 1h
RekeyLimit 1.5G
RemoteCommand tmux attach -t %r
RequestTTY force
RequestTTY yes
RequiredRSASize 2048
SecurityKeyProvider /lib/y.so
SendEnv LANG LC_*
ServerAliveCountMax 4
ServerAliveInterval 2m
SessionType none
SessionType subsystem
SetEnv A=1 "B=two words" C=
StdinNull yes
StreamLocalBindMask 0077
StreamLocalBindUnlink yes
StrictHostKeyChecking no
StrictHostKeyChecking off
StrictHostKeyChecking yes
StrictHostKeyChecking accept-new
SyslogFacility AUTH
TCPKeepAlive no
Tunnel ethernet
Tunnel yes
TunnelDevice 1:2
UpdateHostKeys ask
User joe
User "joe doe"
User 'joe doe'
User joe\\ doe
User "joe \\"x\\" doe"
User joe#doe
User joe # doe
User = joe
User=joe
User =joe
USER	joe
"User" joe
UserKnownHostsFile /a ~/b
UserKnownHostsFile none
UserKnownHostsFile %d/%h.%r
UserKnownHostsFile ${HOME}/x
VerifyHostKeyDNS ask
VisualHostKey yes
XAuthLocation /usr/bin/xauth
Protocol 2
Cipher 3des
UseRoaming no
"""

CASES: Final[tuple[Case, ...]] = (
    *(Case(line + "\n") for line in SIMPLE.strip("\n").split("\n")),
    # Which lines are for which host
    Case(""),
    Case("# nothing\n\n   # but comments\n\t\n"),
    Case("Host a\nUser x\nHost *\nUser y\n", "a"),
    Case("Host a\nUser x\nHost *\nUser y\n", "b"),
    Case("Host a b c\nUser x\n", "c"),
    Case("Host a,b\nUser x\n", "a"),
    Case("Host *.example.com !no.example.com\nUser x\n", "yes.example.com"),
    Case("Host *.example.com !no.example.com\nUser x\n", "no.example.com"),
    Case("Host !no.example.com *.example.com\nUser x\n", "no.example.com"),
    Case("Host !a\nUser x\n", "b"),
    Case("Host 192.168.0.?\nUser x\n", "192.168.0.7"),
    Case("Host 192.168.0.?\nUser x\n", "192.168.0.77"),
    Case("Host foo\nUser x\n", "FOO"),
    Case("Host FOO\nUser x\n", "FOO"),
    Case("Host * \t\r\n  User x\r\n"),
    Case("Port 1\nPort 2\nUser a\nUser b\n"),
    Case("User a\n", user="b"),
    Case("Port 3\n", port=4),
    Case("Host h\nHostName real.example\nHost real.example\nUser x\n", "h"),
    Case("Host h\nHostName %h.example\nMatch host h.example\nUser x\n", "h"),
    Case("Match all\nUser x\n"),
    Case("Match !all\nUser x\n"),
    Case("Match canonical all\nUser x\n"),
    Case("Match final all\nUser x\n"),
    Case("Match final\nUser x\n"),
    Case("Match !final\nUser x\n"),
    Case("Match host a,h*\nUser x\n"),
    Case("Match host a,!host,h*\nUser x\n"),
    Case("Match host HOST\nUser x\n"),
    Case("Match host host user joe\nPort 3\n", user="joe"),
    Case("Match host host user joe\nPort 3\n", user="jim"),
    Case("User joe\nMatch user joe\nPort 3\n"),
    Case("Match user joe\nPort 3\nMatch all\nUser joe\n"),
    Case("Match !user joe\nPort 3\n"),
    Case("Match originalhost host\nPort 3\n"),
    Case("HostName other\nMatch originalhost host\nPort 3\nMatch host host\nUser x\n"),
    Case("HostName other\nMatch originalhost OTHER,HOST host other\nPort 3\n"),
    Case("Match localuser nobody-here\nPort 3\n"),
    Case("Match localuser *\nPort 3\n"),
    Case("Match host=host\nPort 3\n"),
    Case("Match host = host\nPort 3\n"),
    Case("Match exec true\nPort 3\n"),
    Case("Match exec false\nPort 3\n"),
    Case("Match !exec false\nPort 3\n"),
    Case('Match exec "test %h = host"\nPort 3\n'),
    Case('Match exec "test %n:%p:%r = host:22:joe" \nPort 3\n', user="joe"),
    Case('Match exec "test %% = %%"\nPort 3\n'),
    Case('HostKeyAlias abc\nMatch exec "test %k = abc -a %d = $HOME"\nPort 3\n'),
    Case('Match exec "test %u = $(id -un) -a %i = $(id -u) -a %l = $(uname -n)"\nPort 3\n'),
    Case('Match host other exec "exit 0"\nPort 3\n'),
    Case("Match final host *.example\nUser x\nHost h\nHostName h.example\n", "h"),
    Case("Host h\nHostName h.example\nHost h.example\nUser x\nMatch final\nPort 3\n", "h"),
    Case("Match user a # comment\nPort 3\n", user="a"),
    # Values that add up, and values that don't
    Case("IdentityFile a\nIdentityFile b\nIdentityFile a\nHost x\nIdentityFile c\n"),
    Case("Host h*\nIdentityFile a\nHost *\nIdentityFile b\nMatch final\nIdentityFile c\n"),
    Case("IdentityFile none\n"),
    Case("CertificateFile a\nCertificateFile b\nCertificateFile a\n"),
    Case("SendEnv A B*\nSendEnv C -A\n"),
    Case("SendEnv A AB B\nSendEnv -A*\n"),
    Case("SetEnv A=1 B=2\nSetEnv A=3 C=4\n"),
    Case("SetEnv A=1 A=2\n"),
    Case("LocalForward 1 a:1\nLocalForward 2 a:2\nLocalForward 1 a:1\n"),
    Case("RemoteForward 1 a:1\nRemoteForward 2 a:2\nDynamicForward 3\nDynamicForward 4\n"),
    Case("UserKnownHostsFile a\nUserKnownHostsFile b c\n"),
    Case("GlobalKnownHostsFile a b\nGlobalKnownHostsFile c\n"),
    Case("ProxyJump a\nProxyCommand nc\n"),
    Case("ProxyCommand nc\nProxyJump a\n"),
    Case("ProxyJump none\nProxyCommand nc\n"),
    Case("ProxyCommand none\nProxyJump a\n"),
    Case("ProxyJump none\nProxyJump a\n"),
    Case("Host * !bastion\nProxyJump bastion\n", "bastion"),
    Case("Host *\nProxyJump bastion\n", "bastion", port=23),
    Case("Host *\nProxyJump a,b\n", "a"),
    Case("HashKnownHosts yes\nHashKnownHosts no\nCompression no\nCompression yes\n"),
    Case("IgnoreUnknown UseKeychain,Foo*\nUseKeychain yes\nFooBar 1 2 3\nUser x\n"),
    Case("ConnectTimeout none\nConnectTimeout 3\n"),
    Case("Host a\n  Port 3\n  Host host\n    Port=4\n"),
    # What is refused
    Case("Prot 3\n"),
    Case("User x\nNoSuchThing y\n"),
    Case("Host x\nNoSuchThing y\n"),
    Case("Host x\nIgnoreUnknown NoSuchThing\nHost *\nNoSuchThing y\n"),
    Case("IgnoreUnknown a\nabc d\n"),
    Case("Port\n"),
    Case("Port 0\n"),
    Case("Port 65536\n"),
    Case("Port -1\n"),
    Case("Port 22x\n"),
    Case("Host x\nPort 22x\n"),
    Case("User a b\n"),
    Case('User "a\n'),
    Case("User 'a\n"),
    Case('User ""\n'),
    Case("Host\n"),
    Case('Host ""\n'),
    Case("Include\n"),
    Case("Match\n"),
    Case("Match user\n"),
    Case("Match nosuch x\n"),
    Case("Match all host x\n"),
    Case("BatchMode maybe\n"),
    Case("Compression TRUE\n"),
    Case("AddressFamily ipx\n"),
    Case("ConnectTimeout soon\n"),
    Case("ConnectTimeout 3x\n"),
    Case("ConnectionAttempts x\n"),
    Case("StrictHostKeyChecking perhaps\n"),
    Case("LogLevel LOUD\n"),
    Case("RekeyLimit 1X\n"),
    Case("RekeyLimit 1G 1h x\n"),
    Case("LocalForward 80\n"),
    Case("LocalForward 80:a:90\n"),
    Case("LocalForward a/9/b c:3\n"),
    Case("LocalForward 0 a:3\n"),
    Case("DynamicForward 0\n"),
    Case("DynamicForward ::1:9\n"),
    Case("RemoteForward\n"),
    Case("ProxyJump a/b\n"),
    Case("ProxyJump a:x\n"),
    Case("ProxyJump a,,b\n"),
    Case("Host *\nProxyJump bastion\n", "bastion"),
    Case("Host *\nProxyJump a,b\n", "b"),
    Case("Host x\nHostName bastion\nHost *\nProxyJump bastion\n", "x"),
    Case("SetEnv A\n"),
    Case("SendEnv A=b\n"),
    Case("Ciphers aes128-ctr aes256-ctr\n"),
    Case("HostName %x\n"),
    Case("UserKnownHostsFile ${NO_SUCH_VARIABLE}/x\n"),
    Case("UserKnownHostsFile none /a\n"),
    Case("GlobalKnownHostsFile /a none\n"),
    Case("CanonicalizePermittedCNAMEs a\n"),
    Case("StreamLocalBindMask 9\n"),
    Case("EscapeChar abc\n"),
    Case("SyslogFacility nowhere\n"),
    Case("FingerprintHash crc32\n"),
)

#: What ssh 9.2 takes and we don't, with a word of why.
STRICTER: Final = (
    (Case("ProxyJump -x\n"), "does not begin with '-'"),
    (Case("ProxyJump a b\n"), "one value is expected"),
    (Case("Match host x all\n"), "stands alone"),
    (Case("\0User x\n"), "NUL"),
)

#: What we take and ssh doesn't.
LAXER: Final = (
    Case("Ciphers aes128-ctr,made-up\n"),
    Case("Match tagged x\n"),
    Case("Match localnetwork 192.0.2.0/24\n"),
    Case("Match version trio_ssh*\n"),
    Case("Match sessiontype exec\n"),
    Case('Match command ""\n'),
    Case("Tag x\n"),
    Case("ChannelTimeout session=5m\n"),
)
