// Command xcord is the whole platform in one binary: `xcord` serves, the other commands help to operate it. It does not do
// anything itself: it reads the settings, runs a node and turns signals and errors into an exit code.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/xcord/xcord/engine/conf"
	"github.com/xcord/xcord/engine/obs"
	"github.com/xcord/xcord/services/node"
)

// commands are what the binary can do; the settings before them are shared.
type commands struct {
	node.Settings

	Serve   struct{} `cmd:"" default:"1" help:"Run the services (the default)."`
	Migrate struct{} `cmd:"" help:"Bring the schema of Postgres up to date, and end."`
	Keys    keys     `cmd:"" help:"Make, rotate and hand out the keys of tokens."`
	Listen  listen   `cmd:"" help:"Print the events of a session as lines of JSON."`
	Sockets sockets  `cmd:"" help:"Print which WebSockets a user has, on which gateway, since when."`
	Dlq     dlq      `cmd:"" help:"Look at dead letters of a running node, replay or drop them."`
	Admin   admin    `cmd:"" help:"Make administrators of a running node."`

	Config  struct{} `cmd:"" help:"Print all settings."`
	Version struct{} `cmd:"" help:"Print the version."`
}

const help = `XCord is a self-hosted realtime platform: servers, channels, roles, messages and presence over an API that
existing client libraries speak.`

// Exit codes, as sysexits.h has them where it has any.
const (
	exitOK     = 0
	exitFailed = 1
	exitConfig = 78
)

func main() { os.Exit(run(conf.Process(), os.Stdout, os.Stderr)) }

func run(source conf.Source, out, errOut io.Writer) int {
	var c commands
	program := conf.Program{Name: "xcord", Help: strings.ReplaceAll(help, "\n", " "), Out: out}
	loaded, err := conf.Load(&c, program, source)
	if errors.Is(err, conf.ErrHelp) {
		return exitOK
	}
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			fmt.Fprintf(errOut, "xcord: %s\n", line)
		}
		return exitConfig
	}
	log, err := obs.NewLogger(errOut, obs.LogConfig{Format: c.LogFormat, Level: c.LogLevel})
	if err != nil {
		fmt.Fprintf(errOut, "xcord: %v\n", err)
		return exitConfig
	}
	slog.SetDefault(log)
	for _, name := range loaded.Unknown {
		log.Warn("a variable means nothing to xcord", "name", name)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := do(ctx, stop, loaded.Command, &c, program, out, log); err != nil {
		fmt.Fprintf(errOut, "xcord: %v\n", err)
		return exitFailed
	}
	return exitOK
}

func do(ctx context.Context, stop func(), command string, c *commands, program conf.Program, out io.Writer, log *slog.Logger) error {
	switch command {
	case "serve":
		return serve(ctx, stop, &c.Settings, out, log)
	case "migrate":
		return node.Migrate(ctx, &c.Settings)
	case "keys make", "keys rotate", "keys prune", "keys export":
		return c.Keys.run(command, out)
	case "listen":
		return c.Listen.run(ctx, out)
	case "dlq ls", "dlq show", "dlq replay", "dlq drop":
		return c.Dlq.run(ctx, command, &c.Settings, out)
	case "admin create":
		return c.Admin.run(ctx, &c.Settings, out)
	case "sockets":
		return c.Sockets.run(ctx, &c.Settings, out)
	case "config":
		return conf.Reference(out, c, program)
	case "version":
		fmt.Fprintln(out, node.Version())
		return nil
	}
	panic("BUG: command " + command)
}

// serve runs a node until a signal comes or the node fails. A second signal ends the process at once: the first one has
// given the signals back.
func serve(ctx context.Context, stop func(), s *node.Settings, out io.Writer, log *slog.Logger) error {
	n := node.New(s, log)
	if err := n.Start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // told to stop while starting
		}
		return err
	}
	n.Greet(out)
	var err error
	select {
	case <-ctx.Done():
		log.Info("stopping")
	case err = <-n.Failed():
	}
	stop()
	n.Stop()
	return err
}
