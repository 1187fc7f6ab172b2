package node

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/xcord/xcord/engine/conf"
	"github.com/xcord/xcord/engine/redis"
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

	PublicURL    string `help:"What clients are told to connect to, as http(s)://host[:port]. Default: what they used."`
	Registration string `help:"Who may register: open or closed. Default: open on a loopback address, else closed." enum:",open,closed" default:""`
	Durability   string `help:"What a 2xx survives: D0, D2 or D3 (README, Promises)." enum:"D0,D2,D3" default:"D2"`

	HeartbeatInterval time.Duration `default:"41.25s" help:"How often clients of the WebSocket are to be heard of; one and a half without it end a connection."`
	IdentifyTimeout   time.Duration `default:"20s" help:"How long a WebSocket may be open without a session."`
	SlowTimeout       time.Duration `default:"5s" help:"How long a WebSocket may take nothing of what is sent before it is closed; its session can be resumed."`

	LogFormat string `default:"text" enum:"text,json" help:"How the log looks."`
	LogLevel  string `default:"info" enum:"debug,info,warn,error" help:"What the log holds."`
}

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
	if s.Durability == string(redis.D3) && s.RedisURL == "" {
		errs = append(errs, errors.New("durability D3 needs replicas, which the managed Redis does not have: set XCORD_REDIS_URL"))
	}
	return errors.Join(errs...)
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

// registrationOpen: a server that strangers can reach does not take them in unless somebody says so.
func (s *Settings) registrationOpen() bool {
	if s.Registration != "" {
		return s.Registration == "open"
	}
	host, _, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return s.PublicURL == "" && (host == "localhost" || ip != nil && ip.IsLoopback())
}
