package node

import (
	"strings"
	"testing"
	"time"

	"github.com/xcord/xcord/engine/conf"
	"github.com/xcord/xcord/services/auth"
)

func good() Settings {
	return Settings{Addr: "127.0.0.1:8080", AdminAddr: "127.0.0.1:8081", Durability: "D2"}
}

func TestSettings_AcceptsWhatWorks(t *testing.T) {
	t.Parallel()
	f := func(change func(*Settings)) {
		t.Helper()
		s := good()
		change(&s)
		if err := s.Validate(); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
	}
	shared := func(s *Settings) { s.KeysDir, s.RedisURL, s.PostgresURL = "keys", "redis://x", "postgres://x" }
	f(func(*Settings) {})
	f(func(s *Settings) { s.PublicURL = "https://chat.example:8443" })
	f(func(s *Settings) {
		s.Limits, s.TrustedProxies, s.Origins = "off", []string{"10.1.2.3", "fd00::/8"}, []string{"*", "http://localhost:5173"}
	})
	f(func(s *Settings) {
		s.Addr, s.ACMEDomain, s.LimitExempt = "0.0.0.0:443", []string{"chat.example"}, []string{"none"}
	})
	f(func(s *Settings) { shared(s); s.Services = []string{Auth, Guilds} })
	f(func(s *Settings) { shared(s); s.Services, s.PublicURL = []string{Messaging}, "http://chat.example" })
	f(func(s *Settings) {
		shared(s)
		s.Services = []string{Gateway}
		s.UpstreamAuth, s.UpstreamGuilds, s.UpstreamMessaging = []string{"a:1", "b:1"}, []string{"a:1"}, []string{"a:1"}
	})
}

func TestSettings_NamesEveryMistake(t *testing.T) {
	t.Parallel()
	f := func(change func(*Settings), want ...string) {
		t.Helper()
		s := good()
		change(&s)
		err := s.Validate()
		if err == nil {
			t.Errorf("%+v: want %q", s, want)
			return
		}
		if lines := strings.Split(err.Error(), "\n"); len(lines) != len(want) {
			t.Errorf("%d mistakes, want %d:\n%v", len(lines), len(want), err)
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%v\ndoes not say %q", err, w)
			}
		}
	}
	f(func(s *Settings) { s.Addr, s.AdminAddr, s.PublicURL = "x", "y", "z" }, `addr "x"`, `admin-addr "y"`, `public-url "z"`)
	f(func(s *Settings) { s.Durability = "D3" }, "durability D3")
	f(func(s *Settings) { s.WriterLease, s.ResumeWindow, s.DrainTime = -1, -1, -1 }, "writer-lease -1ns", "resume-window -1ns", "drain-time -1ns")
	f(func(s *Settings) { s.AuditKeep = time.Hour }, "audit-keep 1h0m0s")
	f(func(s *Settings) { s.WriterLease = 3 }, "writer-lease 3ns") // a quarter of it is no time at all
	f(func(s *Settings) { s.BusRetain, s.BusRetainBytes = 48*time.Hour, 1 }, "bus-retain 48h0m0s", "bus-retain-bytes 1")
	f(func(s *Settings) { s.UpstreamAuth = []string{"a:1"} }, "upstream-auth is set, but auth runs here")
	f(func(s *Settings) { s.Services = []string{Auth, Auth, "cooking"} },
		`"auth" is named twice`, `"cooking" is none of`, "keys-dir is missing", "XCORD_REDIS_URL", "XCORD_POSTGRES_URL")
	f(func(s *Settings) {
		s.Addr, s.Limits, s.LimitUser = "0.0.0.0:80", "off", -1
		s.TrustedProxies, s.LimitExempt, s.Origins = []string{"10.0.0.0/33"}, []string{"here"}, []string{"https://a.example/", "a.example", "*"}
		s.TLSCert, s.ACMEDomain = "cert.pem", []string{"a.example"}
	}, "limits off: only on a loopback address", "limit-user must not be negative", `trusted-proxies: "10.0.0.0/33"`, `limit-exempt: "here"`,
		`origins: "https://a.example/"`, `origins: "a.example"`, "tls-cert, tls-key, acme-domain: TLS needs both", "either a certificate or domains")
	f(func(s *Settings) {
		s.Services, s.KeysDir, s.RedisURL, s.PostgresURL = []string{Messaging}, "keys", conf.Secret("r"), conf.Secret("p")
	}, "public-url is missing")
	f(func(s *Settings) {
		s.Services, s.KeysDir, s.RedisURL, s.PostgresURL = []string{Gateway}, "keys", conf.Secret("r"), conf.Secret("p")
		s.UpstreamAuth = []string{"nowhere"}
	}, `upstream-auth "nowhere"`, "upstream-guilds is missing", "upstream-messaging is missing")
}

func TestSettings_LetStrangersInOnlyOnLoopback(t *testing.T) {
	t.Parallel()
	f := func(addr, public, registration string, want auth.Registration) {
		t.Helper()
		s := Settings{Addr: addr, PublicURL: public, Registration: registration}
		if got := s.registration(); got != want {
			t.Errorf("addr %q, public URL %q, registration %q: got %v", addr, public, registration, got)
		}
	}
	f("127.0.0.1:8080", "", "", auth.RegistrationLocal)
	f("[::1]:8080", "", "", auth.RegistrationLocal)
	f("localhost:8080", "", "", auth.RegistrationLocal)
	f("127.0.0.1:8080", "https://chat.example", "", auth.RegistrationInvite)
	f("0.0.0.0:8080", "", "", auth.RegistrationInvite)
	f(":8080", "", "", auth.RegistrationInvite)
	f("chat.example:8080", "", "", auth.RegistrationInvite)
	f("0.0.0.0:8080", "", "open", auth.RegistrationOpen)
	f("0.0.0.0:8080", "", "invite", auth.RegistrationInvite)
	f("127.0.0.1:8080", "", "closed", auth.RegistrationClosed)
	behind := Settings{Addr: "127.0.0.1:8080", TrustedProxies: []string{"10.0.0.1"}}
	apart := Settings{Addr: "127.0.0.1:8080", Services: []string{Auth}}
	for _, s := range []Settings{behind, apart} {
		if got := s.registration(); got != auth.RegistrationInvite {
			t.Errorf("%+v: got %v", s, got)
		}
	}
}
