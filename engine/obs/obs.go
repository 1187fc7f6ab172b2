// Package obs is how the house is observed: the logger, the health checks and the admin listener with metrics, probes
// and profiles. It does not define anybody's metrics, decide what is logged, or listen where clients can reach it.
package obs

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// LogConfig says how the log looks. The zero value is text from Info up.
type LogConfig struct {
	Format string // "text" (default) or "json"
	Level  string // "debug", "info" (default), "warn" or "error"
}

// Validate returns every mistake at once.
func (c LogConfig) Validate() error {
	var errs []error
	switch c.Format {
	case "", "text", "json":
	default:
		errs = append(errs, fmt.Errorf("log format %q: want text or json", c.Format))
	}
	if _, err := c.level(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c LogConfig) level() (slog.Level, error) {
	switch c.Level {
	case "debug":
		return slog.LevelDebug, nil
	case "", "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return slog.LevelInfo, fmt.Errorf("log level %q: want debug, info, warn or error", c.Level)
}

// NewLogger returns a logger that writes to w. It does not become slog's default: main decides that.
func NewLogger(w io.Writer, c LogConfig) (*slog.Logger, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	level, _ := c.level() // validated above
	opts := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return slog.New(slog.NewTextHandler(w, opts)), nil
}
