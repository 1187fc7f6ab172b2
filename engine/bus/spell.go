package bus

import (
	"log/slog"
	"time"
)

// spell is a run of failures of one thing, which the log is told of once at each end, however long it takes. It belongs to one
// goroutine; the zero value is ready.
type spell struct {
	count int
	began time.Time
}

// fail counts a failure.
func (s *spell) fail(message string, attrs ...any) {
	if s.count++; s.count == 1 {
		s.began = time.Now()
		slog.Warn(message, attrs...)
	}
}

// end is called with every success.
func (s *spell) end(message string, attrs ...any) {
	if s.count == 0 {
		return
	}
	slog.Info(message, append(attrs, "failures", s.count, "took", time.Since(s.began))...)
	*s = spell{}
}
