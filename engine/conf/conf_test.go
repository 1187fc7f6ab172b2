package conf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type settings struct {
	Addr     string        `help:"Public listener." default:"127.0.0.1:8080"`
	Services []string      `help:"What runs here." enum:"auth,guilds,messaging" default:"auth,guilds"`
	Timeout  time.Duration `help:"How long to wait." default:"5s"`
	Shards   int           `help:"How many shards." default:"1"`
	TLS      bool          `name:"tls" help:"Speak TLS."`
	RedisURL Secret        `name:"redis-url" help:"External Redis."`
	Mode     string        `enum:"D0,D2,D3" default:"D2" help:"Durability." env:"XCORD_DURABILITY"`

	Serve  struct{} `cmd:"" default:"withargs" help:"Run services."`
	Backup struct {
		To   string `required:"" help:"Where to."`
		Name string `arg:"" help:"What to call it."`
	} `cmd:"" help:"Save everything."`
}

// Validate refuses a combination that no single field can show.
func (s *settings) Validate() error {
	if s.TLS && s.Shards > 8 {
		return errors.New("tls with more than 8 shards")
	}
	return nil
}

func load(t *testing.T, env []string, args ...string) (settings, Loaded, error) {
	t.Helper()
	var s settings
	var out bytes.Buffer
	loaded, err := Load(&s, Program{Name: "xcord", Help: "A test.", Out: &out}, Source{Args: args, Environ: env})
	return s, loaded, err
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad_TakesTheLaterOf_DefaultFileEnvironmentFlag(t *testing.T) {
	t.Parallel()
	file := write(t, "# comment\n\nXCORD_ADDR=file:1\nXCORD_TIMEOUT=\"7s\"\nXCORD_SHARDS=3\nXCORD_TLS=true\n")
	got, loaded, err := load(t, []string{"HOME=/", "XCORD_CONFIG=" + file, "XCORD_SHARDS=4", "XCORD_TIMEOUT=8s", "XCORD_ADDR="}, "--timeout", "9s")
	if err != nil {
		t.Fatal(err)
	}
	want := settings{Addr: "file:1", Services: []string{"auth", "guilds"}, Timeout: 9 * time.Second, Shards: 4, TLS: true, Mode: "D2"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if loaded.Command != "serve" {
		t.Errorf("Command = %q", loaded.Command)
	}
}

func TestLoad_AcceptsFlagsWithOneDash(t *testing.T) {
	t.Parallel()
	got, loaded, err := load(t, nil, "serve", "-addr", "a:1", "-services=auth,messaging", "-tls")
	if err != nil || got.Addr != "a:1" || !got.TLS || cmp.Diff([]string{"auth", "messaging"}, got.Services) != "" || loaded.Command != "serve" {
		t.Errorf("got %+v, %+v, %v", got, loaded, err)
	}
}

func TestLoad_NamesTheCommandWithoutItsArguments(t *testing.T) {
	t.Parallel()
	got, loaded, err := load(t, nil, "backup", "--to", "/tmp", "monday")
	if err != nil || loaded.Command != "backup" || got.Backup.Name != "monday" || got.Backup.To != "/tmp" {
		t.Errorf("got %+v, %+v, %v", got, loaded, err)
	}
}

func TestLoad_NamesEveryMistakeAtOnce(t *testing.T) {
	t.Parallel()
	file := write(t, "XCORD_SHARDZ=3\nnonsense hunter2\n")
	_, _, err := load(t,
		[]string{"XCORD_TIMEOUT=soon", "XCORD_DURABILITY=D9", "XCORD_REDIS_URL_FILE=/does/not/exist", "XCORD_CONFIG=" + file},
		"--shards=many", "--services=auth,chat", "--wat", "value", "--bogus=1")
	if err == nil {
		t.Fatal("no error")
	}
	want := []string{"XCORD_TIMEOUT: ", "XCORD_DURABILITY: \"D9\" is none of D0, D2, D3", "XCORD_REDIS_URL_FILE: open /does/not/exist",
		"--shards: ", "--services: \"chat\" is none of auth, guilds, messaging", "--wat: there is no such flag", "--bogus: ", file + ":1: ", file + ":2: "}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not say %q", w)
		}
	}
	if n := len(strings.Split(err.Error(), "\n")); n != len(want) {
		t.Errorf("%d lines, want %d", n, len(want))
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Error("a line that may hold a secret was repeated")
	}
	if t.Failed() {
		t.Log(err)
	}
}

func TestLoad_DoesNotTakeACommandForAnUnknownFlagsValue(t *testing.T) {
	t.Parallel()
	_, _, err := load(t, nil, "--wat", "backup", "--to", "/tmp", "monday")
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "--wat") {
		t.Errorf("err = %v, want only that there is no --wat", err)
	}
}

func TestLoad_ReportsValidateBesideOtherMistakes(t *testing.T) {
	t.Parallel()
	_, _, err := load(t, []string{"XCORD_TIMEOUT=soon"}, "--tls", "--shards=9")
	if err == nil || !strings.Contains(err.Error(), "XCORD_TIMEOUT") || !strings.Contains(err.Error(), "tls with more than 8 shards") {
		t.Errorf("err = %v", err)
	}
}

func TestLoad_NamesMissingAndUnexpectedArguments(t *testing.T) {
	t.Parallel()
	if _, _, err := load(t, nil, "backup", "monday"); err == nil || !strings.Contains(err.Error(), "--to") {
		t.Errorf("err = %v", err)
	}
	if _, _, err := load(t, nil, "fly"); err == nil || !strings.Contains(err.Error(), "fly") {
		t.Errorf("err = %v", err)
	}
}

func TestLoad_ReadsSecretsFromTheEnvironmentOrFiles(t *testing.T) {
	t.Parallel()
	f := func(want string, env ...string) {
		t.Helper()
		got, _, err := load(t, env)
		if err != nil || got.RedisURL.Reveal() != want {
			t.Errorf("%v: %q, %v", env, got.RedisURL.Reveal(), err)
		}
	}
	secret := write(t, "redis://u:hunter2@h\n")
	f("redis://x", "XCORD_REDIS_URL=redis://x")
	f("redis://u:hunter2@h", "XCORD_REDIS_URL_FILE="+secret)
	f("redis://u:hunter2@h", "XCORD_CONFIG="+write(t, "XCORD_REDIS_URL_FILE="+secret))
	f("")
}

func TestLoad_RefusesAmbiguousOrVisibleSecrets(t *testing.T) {
	t.Parallel()
	_, _, err := load(t, []string{"XCORD_REDIS_URL=hunter2", "XCORD_REDIS_URL_FILE=" + write(t, "hunter2")})
	if err == nil || !strings.Contains(err.Error(), "both set") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("err = %v", err)
	}
	for _, args := range [][]string{{"--redis-url=hunter2"}, {"-redis-url", "hunter2"}} {
		_, _, err := load(t, nil, args...)
		if err == nil || !strings.Contains(err.Error(), "XCORD_REDIS_URL_FILE") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v: err = %v", args, err)
		}
	}
	_, _, err = load(t, []string{"XCORD_REDIS_URL_FILE=" + write(t, strings.Repeat("x", secretFileMax+1))})
	if err == nil || !strings.Contains(err.Error(), "more than 65536 bytes") {
		t.Errorf("err = %v", err)
	}
}

func TestLoad_ListsVariablesThatMeanNothing(t *testing.T) {
	t.Parallel()
	_, loaded, err := load(t, []string{"XCORD_ADR=x", "XCORD_PORT=tcp://10.0.0.1:80", "XCORD_ADDR_FILE=/x", "PATH=/bin"})
	if diff := cmp.Diff([]string{"XCORD_ADR", "XCORD_PORT", "XCORD_ADDR_FILE"}, loaded.Unknown); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func TestLoad_PrintsHelpWithoutSecretsAsFlags(t *testing.T) {
	t.Parallel()
	var s settings
	var out bytes.Buffer
	_, err := Load(&s, Program{Name: "xcord", Help: "A test.", Out: &out}, Source{Args: []string{"--help"}})
	if !errors.Is(err, ErrHelp) {
		t.Fatalf("err = %v", err)
	}
	for _, want := range []string{"Usage: xcord", "A test.", "Public listener. ($XCORD_ADDR)", "--config", "backup"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("help does not say %q", want)
		}
	}
	if strings.Contains(out.String(), "redis-url") {
		t.Error("help offers a secret as a flag")
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

func TestReference_ListsEverySetting(t *testing.T) {
	t.Parallel()
	var s settings
	var out bytes.Buffer
	if err := Reference(&out, &s, Program{Name: "xcord"}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"FLAG ENVIRONMENT DEFAULT MEANING",
		"--addr XCORD_ADDR 127.0.0.1:8080 Public listener.",
		"--services XCORD_SERVICES auth,guilds What runs here. One of: auth, guilds, messaging.",
		"--timeout XCORD_TIMEOUT 5s How long to wait.",
		"--shards XCORD_SHARDS 1 How many shards.",
		"--tls XCORD_TLS - Speak TLS.",
		"- XCORD_REDIS_URL, XCORD_REDIS_URL_FILE - External Redis.",
		"--mode XCORD_DURABILITY D2 Durability. One of: D0, D2, D3.",
		"--config XCORD_CONFIG - A file of settings, one XCORD_NAME=value a line.",
		"--to XCORD_TO - Where to. Required. Only with: backup.",
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSecret_PrintsAsAMaskEverywhere(t *testing.T) {
	t.Parallel()
	s := struct {
		URL Secret
		P   *Secret
	}{URL: "hunter2"}
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "url", s.URL, "all", s)
	marshalled, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	printed := []string{logged.String(), string(marshalled)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t"} {
		printed = append(printed, fmt.Sprintf(verb, s.URL), fmt.Sprintf(verb, s), fmt.Sprintf(verb, &s))
	}
	for _, p := range printed {
		if strings.Contains(p, "hunter2") || strings.Contains(p, "68756e74657232") || !strings.Contains(p, "[secret]") {
			t.Errorf("printed %s", p)
		}
	}
	if s.URL.Reveal() != "hunter2" || fmt.Sprint(Secret("")) != "" {
		t.Error("Reveal or the empty secret is wrong")
	}
}
