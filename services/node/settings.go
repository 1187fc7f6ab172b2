package node

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/xcord/xcord/engine/conf"
	"github.com/xcord/xcord/engine/files"
	"github.com/xcord/xcord/engine/redis"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/services/auth"
)

// The services that a process can run.
const (
	Gateway   = "gateway"
	Auth      = "auth"
	Guilds    = "guilds"
	Messaging = "messaging"
)

// serviceNames in the order in which they start.
var serviceNames = []string{Auth, Guilds, Messaging, Gateway}

// Settings are all settings of a process; package conf fills them. The zero value of each is its default.
type Settings struct {
	Addr        string   `default:"127.0.0.1:8080" help:"Public listener: REST and WebSocket. Without the gateway service: where other processes forward to."`
	AdminAddr   string   `default:"127.0.0.1:8081" help:"Internal listener: /metrics, /livez, /readyz."`
	AdminSocket string   `help:"A unix socket, 0600, for profiles and what xcord dlq and xcord sockets ask. Default: <data>/admin.sock, if there is a data directory."`
	Data        string   `help:"Where the managed servers and generated secrets live. Default: ./data, as root /var/lib/xcord."`
	Services    []string `help:"Which services this process runs: gateway, auth, guilds, messaging. Default: all."`

	UpstreamAuth      []string `help:"Where auth lives when it is not here: host:port, several with commas."`
	UpstreamGuilds    []string `help:"Where guilds lives when it is not here."`
	UpstreamMessaging []string `help:"Where messaging lives when it is not here."`

	RedisURL         conf.Secret   `help:"An external Redis for the log. Default: a managed private one."`
	RedisAdminURL    conf.Secret   `help:"The external Redis as a user who may CONFIG GET and FUNCTION LOAD, for the boot. Default: as above."`
	RedisVolatileURL conf.Secret   `help:"A second Redis, without durability, for presence. Default: the same."`
	PostgresURL      conf.Secret   `help:"An external Postgres. Default: a managed private one."`
	KeysDir          string        `help:"Where the keys of tokens and between services are. Default: <data>/keys, generated. Required with -services."`
	KeysEvery        time.Duration `default:"30s" help:"How often the keys directory is looked at. A new key is signed with after four times as long."`

	TrustedProxies []string `help:"Networks (CIDR) or addresses of proxies whose X-Forwarded-For counts. Default: none."`
	Origins        []string `help:"Pages of other sites that may use the API and the gateway: https://app.example, exactly; * is all. Default: none."`
	TLSCert        string   `name:"tls-cert" help:"TLS on the public listener: a file with the certificate chain, read again when it changes."`
	TLSKey         string   `name:"tls-key" help:"The file with its key."`
	ACMEDomain     []string `name:"acme-domain" help:"TLS with certificates by ACME for these names; the listener must be reachable at port 443 of them."`
	ACMEDirectory  string   `name:"acme-directory" help:"The ACME directory. Default: that of Let's Encrypt."`

	Limits           string        `default:"on" enum:"on,off" help:"off lifts all rate limits, for benchmarks; refused unless the address is loopback."`
	LimitUser        int           `help:"Requests of one user in a second. Default: 50."`
	LimitAddress     int           `help:"Requests from one address (IPv6: /64) in 10 s. Default: 2000."`
	LimitInvalid     int           `help:"Answers 401, 403 and 429 to one address in 10 min; then it gets nothing but 429. Default: 10000."`
	LimitLogins      int           `help:"Wrong passwords from one address in 15 min. Default: 50."`
	LimitStarts      int           `help:"Gateway sessions that one user may begin in 5 s. Default: 16."`
	LimitConnections int           `help:"Open connections, and gateway sockets, of one address. Default: 4096."`
	LimitExempt      []string      `help:"Networks that limits by address do not count. Default: loopback; none for no network."`
	ReadTimeout      time.Duration `help:"How long a client may take to send one request. Default: 5s."`

	FilesDir       string      `help:"Where attachments are kept, and with -files-s3 only while they arrive. Default: <data>/files."`
	FilesS3        string      `name:"files-s3" help:"Keep attachments in S3-compatible storage: https://host[:port]/bucket[/prefix]. Needed when messaging runs in several processes."`
	FilesS3Region  string      `name:"files-s3-region" help:"The region of the bucket. Default: us-east-1."`
	FilesS3Key     conf.Secret `name:"files-s3-key" help:"The access key."`
	FilesS3Secret  conf.Secret `name:"files-s3-secret" help:"The secret access key."`
	FileBytes      int64       `help:"The largest attachment. Default: 10485760."`
	FormBytes      int64       `help:"All attachments of one message together, as they are sent. Default: 26214400."`
	FilesQuota     int64       `help:"How many bytes all attachments may have. Default: 21474836480."`
	FilesUserQuota int64       `help:"How many bytes the attachments of one user may have. Default: 2147483648."`

	PublicURL      string        `help:"What clients are told to connect to, as http(s)://host[:port]. Default: what they used. Required where messaging runs without the gateway."`
	Registration   string        `help:"Who may register, until an administrator chooses otherwise. Default: invite, but open to this machine on a loopback address." enum:",open,invite,closed" default:""`
	AuditKeep      time.Duration `help:"How long the audit log of accounts and administration keeps a line: at least 2160h. Default: 8760h."`
	BusRetain      time.Duration `default:"24h" help:"How far back the log reaches for RESUME, at most: 1m to 24h."`
	BusRetainBytes int64         `default:"536870912" help:"How large the log may grow before it reaches back less far. What is not stored yet is kept in any case."`

	Durability string `help:"What a 2xx survives: D0, D2 or D3 (README, Promises)." enum:"D0,D2,D3" default:"D2"`

	WriterLease  time.Duration `default:"10s" help:"How long the process that writes messages to Postgres may stand still before another one does."`
	ResumeWindow time.Duration `default:"5m" help:"How long a session can be resumed after its connection has gone, on any gateway."`
	DrainTime    time.Duration `default:"5s" help:"Over how long a stop spreads telling clients to reconnect, at most; 10 ms for each is enough."`

	HeartbeatInterval time.Duration `default:"41.25s" help:"How often clients of the WebSocket are to be heard of; one and a half without it end a connection."`
	IdentifyTimeout   time.Duration `default:"20s" help:"How long a WebSocket may be open without a session."`
	SlowTimeout       time.Duration `default:"5s" help:"How long a WebSocket may take nothing of what is sent before it is closed; its session can be resumed."`

	LogFormat string `default:"text" enum:"text,json" help:"How the log looks."`
	LogLevel  string `default:"info" enum:"debug,info,warn,error" help:"What the log holds."`
}

// retainBytesMin is some 2,000 messages: a log that is shorter would make every RESUME a new start.
const retainBytesMin = 1 << 20

// Validate names every mistake at once.
func (s *Settings) Validate() error {
	var errs []error
	errs = append(errs, hostPort("addr", s.Addr), hostPort("admin-addr", s.AdminAddr))
	for i, name := range s.Services {
		if !slices.Contains(serviceNames, name) {
			errs = append(errs, fmt.Errorf("services: %q is none of %s", name, strings.Join(serviceNames, ", ")))
		}
		if slices.Contains(s.Services[:i], name) {
			errs = append(errs, fmt.Errorf("services: %q is named twice", name))
		}
	}
	errs = append(errs, s.validateUpstreams()...)
	if len(s.AdminSocket) > socketPathMax {
		errs = append(errs, fmt.Errorf("admin-socket %q: the path of a socket has at most %d bytes", s.AdminSocket, socketPathMax))
	}
	errs = append(errs, notNegative("keys-every", s.KeysEvery), notNegative("heartbeat-interval", s.HeartbeatInterval),
		notNegative("identify-timeout", s.IdentifyTimeout), notNegative("slow-timeout", s.SlowTimeout))
	if s.PublicURL != "" {
		u, err := url.Parse(s.PublicURL)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			errs = append(errs, fmt.Errorf("public-url %q: want http://host[:port] or https://host[:port]", s.PublicURL))
		}
	}
	if s.WriterLease != 0 && s.WriterLease < time.Second {
		errs = append(errs, fmt.Errorf("writer-lease %v: want at least 1s", s.WriterLease))
	}
	if s.ResumeWindow < 0 {
		errs = append(errs, fmt.Errorf("resume-window %v is negative", s.ResumeWindow))
	}
	if s.DrainTime < 0 {
		errs = append(errs, fmt.Errorf("drain-time %v is negative", s.DrainTime))
	}
	errs = append(errs, s.validateListener()...)
	if s.BusRetain != 0 && (s.BusRetain < time.Minute || s.BusRetain > 24*time.Hour) {
		errs = append(errs, fmt.Errorf("bus-retain %v: want 1m to 24h", s.BusRetain))
	}
	if s.BusRetainBytes != 0 && s.BusRetainBytes < retainBytesMin {
		errs = append(errs, fmt.Errorf("bus-retain-bytes %d: want at least %d", s.BusRetainBytes, retainBytesMin))
	}
	if s.AuditKeep != 0 && s.AuditKeep < auth.AuditKeepMin {
		errs = append(errs, fmt.Errorf("audit-keep %v: want at least %v", s.AuditKeep, auth.AuditKeepMin))
	}
	errs = append(errs, s.validateFiles()...)
	if s.Durability == string(redis.D3) && s.RedisURL == "" {
		errs = append(errs, errors.New("durability D3 needs replicas, which the managed Redis does not have: set XCORD_REDIS_URL"))
	}
	return errors.Join(errs...)
}

// validateFiles names the mistakes in where attachments are.
func (s *Settings) validateFiles() (errs []error) {
	if s.FilesS3 != "" {
		if err := s.s3().Validate(); err != nil {
			errs = append(errs, fmt.Errorf("files-s3, files-s3-key, files-s3-secret: %w", err))
		}
	}
	for name, n := range map[string]int64{
		"file-bytes": s.FileBytes, "form-bytes": s.FormBytes, "files-quota": s.FilesQuota, "files-user-quota": s.FilesUserQuota,
	} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("%s must not be negative", name))
		}
	}
	return errs
}

func (s *Settings) s3() files.S3Config {
	return files.S3Config{URL: s.FilesS3, Region: s.FilesS3Region, Key: s.FilesS3Key.Reveal(), Secret: s.FilesS3Secret.Reveal()}
}

// filesDir is where files are, or arrive.
func (s *Settings) filesDir() (string, error) {
	if s.FilesDir != "" {
		return filepath.Abs(s.FilesDir)
	}
	dir, err := s.dataDir()
	return filepath.Join(dir, "files"), err
}

// validateListener names the mistakes in who may come and how often.
func (s *Settings) validateListener() (errs []error) {
	for name, networks := range map[string][]string{"trusted-proxies": s.TrustedProxies, "limit-exempt": s.LimitExempt} {
		if _, err := prefixes(networks); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	for _, origin := range s.Origins {
		u, err := url.Parse(origin)
		if origin != "*" && (err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != origin) {
			errs = append(errs, fmt.Errorf("origins: %q: want scheme://host[:port] without a path, or *", origin))
		}
	}
	if tls := s.tls(""); tls != nil {
		if err := tls.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("tls-cert, tls-key, acme-domain: %w", err))
		}
	}
	if s.Limits == "off" && !s.onLoopback() {
		errs = append(errs, fmt.Errorf("limits off: only on a loopback address, not on %s", s.Addr))
	}
	for name, n := range map[string]int{
		"limit-user": s.LimitUser, "limit-address": s.LimitAddress, "limit-invalid": s.LimitInvalid, "limit-logins": s.LimitLogins,
		"limit-starts": s.LimitStarts, "limit-connections": s.LimitConnections, "read-timeout": int(s.ReadTimeout),
	} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("%s must not be negative", name))
		}
	}
	return errs
}

// prefixes reads networks; an address is a network of one. "none" alone is a list without any.
func prefixes(networks []string) ([]netip.Prefix, error) {
	if len(networks) == 1 && networks[0] == "none" {
		return []netip.Prefix{}, nil
	}
	var out []netip.Prefix
	for _, n := range networks {
		p, err := netip.ParsePrefix(n)
		if a, errAddr := netip.ParseAddr(n); errAddr == nil {
			p, err = a.Prefix(a.BitLen())
		}
		if err != nil {
			return nil, fmt.Errorf("%q is neither a network like 10.0.0.0/8 nor an address", n)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// tls is where certificates come from, nil when there is no TLS. cache is the directory for those by ACME.
func (s *Settings) tls(cache string) *rest.TLS {
	if s.TLSCert == "" && s.TLSKey == "" && len(s.ACMEDomain) == 0 {
		return nil
	}
	if cache == "" {
		cache = "acme"
	}
	return &rest.TLS{CertFile: s.TLSCert, KeyFile: s.TLSKey, Domains: s.ACMEDomain, Directory: s.ACMEDirectory, CacheDir: cache}
}

func (s *Settings) onLoopback() bool {
	host, _, err := net.SplitHostPort(s.Addr)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

func (s *Settings) validateUpstreams() (errs []error) {
	for _, name := range serviceNames {
		addrs := s.upstream(name)
		if len(addrs) > 0 && s.Runs(name) {
			errs = append(errs, fmt.Errorf("upstream-%s is set, but %s runs here", name, name))
		}
		if len(addrs) == 0 && name != Gateway && s.Runs(Gateway) && !s.Runs(name) {
			errs = append(errs, fmt.Errorf("upstream-%s is missing: %s does not run here and the gateway must know where it does", name, name))
		}
		for _, addr := range addrs {
			errs = append(errs, hostPort("upstream-"+name, addr))
		}
	}
	if len(s.Services) == 0 {
		return errs
	}
	if s.KeysDir == "" {
		errs = append(errs, errors.New("keys-dir is missing: with -services the processes share keys (`xcord keys make DIR` makes them)"))
	}
	if s.RedisURL == "" {
		errs = append(errs, errors.New("XCORD_REDIS_URL is missing: with -services the processes share the servers"))
	}
	if s.PostgresURL == "" {
		errs = append(errs, errors.New("XCORD_POSTGRES_URL is missing: with -services the processes share the servers"))
	}
	if s.Runs(Messaging) && !s.Runs(Gateway) && s.PublicURL == "" {
		errs = append(errs, errors.New("public-url is missing: messages tell the addresses of their attachments, and without the gateway messaging cannot know where people come in"))
	}
	return errs
}

// hostPort is the mistake in an address, or nil.
func hostPort(name, addr string) error {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return fmt.Errorf("%s %q: want host:port", name, addr)
	}
	return nil
}

func notNegative(name string, d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("%s %v is negative", name, d)
	}
	return nil
}

// Runs says whether a service runs in this process.
func (s *Settings) Runs(name string) bool {
	return len(s.Services) == 0 || slices.Contains(s.Services, name)
}

func (s *Settings) upstream(name string) []string {
	switch name {
	case Auth:
		return s.UpstreamAuth
	case Guilds:
		return s.UpstreamGuilds
	case Messaging:
		return s.UpstreamMessaging
	}
	return nil
}

// keysEvery is how often the keys directory is looked at.
func (s *Settings) keysEvery() time.Duration {
	if s.KeysEvery == 0 {
		return 30 * time.Second
	}
	return s.KeysEvery
}

// dataDir is where the state goes, as an absolute path.
func (s *Settings) dataDir() (string, error) {
	dir := s.Data
	if dir == "" {
		dir = "data"
		if os.Geteuid() == 0 {
			dir = "/var/lib/xcord"
		}
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("data directory %q: %w", dir, err)
	}
	return abs, nil
}

// SocketPath is where the private socket is, as an absolute path.
func (s *Settings) SocketPath() (string, error) {
	path := s.AdminSocket
	if path == "" {
		dir, err := s.dataDir()
		if err != nil {
			return "", err
		}
		path = filepath.Join(dir, "admin.sock")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("admin socket %q: %w", path, err)
	}
	return abs, nil
}

// registration: a server that strangers can reach takes in nobody who was not invited, unless somebody says so. Where the gateway is
// another process, this one cannot know who reaches it.
func (s *Settings) registration() auth.Registration {
	if s.Registration != "" {
		return auth.Registration(s.Registration)
	}
	if s.PublicURL == "" && len(s.TrustedProxies) == 0 && s.Runs(Gateway) && s.onLoopback() {
		return auth.RegistrationLocal
	}
	return auth.RegistrationInvite
}
