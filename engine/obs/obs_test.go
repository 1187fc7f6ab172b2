package obs

import (
	"bytes"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNewLogger_HonoursFormatAndLevel(t *testing.T) {
	t.Parallel()
	f := func(c LogConfig, want string) {
		t.Helper()
		var out bytes.Buffer
		log, err := NewLogger(&out, c)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("started", "service", "bus")
		log.Warn("slow", "service", "bus")
		got := out.String()
		if strings.Count(got, "\n") != strings.Count(want, "\n")+1 {
			t.Errorf("%+v: got %q", c, got)
		}
		for _, w := range strings.Split(want, "\n") {
			if !strings.Contains(got, w) {
				t.Errorf("%+v: got %q, want %q in it", c, got, w)
			}
		}
	}
	f(LogConfig{}, "level=INFO msg=started service=bus\nlevel=WARN msg=slow service=bus")
	f(LogConfig{Format: "json", Level: "warn"}, `"level":"WARN","msg":"slow","service":"bus"}`)
	f(LogConfig{Format: "text", Level: "warn"}, "level=WARN msg=slow")
}

func TestLogConfig_NamesEveryMistake(t *testing.T) {
	t.Parallel()
	err := LogConfig{Format: "xml", Level: "loud"}.Validate()
	if err == nil || !strings.Contains(err.Error(), `"xml"`) || !strings.Contains(err.Error(), `"loud"`) {
		t.Errorf("err = %v", err)
	}
	if _, err := NewLogger(nil, LogConfig{Level: "loud"}); err == nil {
		t.Error("NewLogger took a level that does not exist")
	}
}
