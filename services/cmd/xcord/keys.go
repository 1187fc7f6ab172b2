package main

import (
	"fmt"
	"io"

	"github.com/xcord/xcord/engine/token"
)

// keys is the tool for a keys directory. It works on files; running processes see what has changed by themselves.
type keys struct {
	Make struct {
		Dir string `arg:"" help:"Where to."`
	} `cmd:"" default:"withargs" help:"Make the keys that several processes share, where there are none yet."`
	Rotate struct {
		Dir string `arg:"" help:"The directory of auth."`
	} `cmd:"" help:"Add a key of access tokens, which auth signs with when the others had the time to see it."`
	Prune struct {
		Dir string `arg:"" help:"Which directory."`
	} `cmd:"" help:"Delete the keys before the newest one, when no token of theirs can be good any more."`
	Export struct {
		Dir string `arg:"" help:"The directory of auth."`
		To  string `arg:"" help:"Where to."`
	} `cmd:"" help:"Copy what a process without auth needs: no private key of tokens."`
}

func (k *keys) run(command string, out io.Writer) error {
	switch command {
	case "keys make":
		return token.Generate(k.Make.Dir)
	case "keys rotate":
		kid, err := token.Rotate(k.Rotate.Dir)
		if err == nil {
			fmt.Fprintf(out, "Added key %s. Bring its public half to where directories are not shared (xcord keys export), within two minutes.\n", kid)
		}
		return err
	case "keys prune":
		gone, err := token.Prune(k.Prune.Dir)
		for _, name := range gone {
			fmt.Fprintln(out, "deleted", name)
		}
		return err
	case "keys export":
		return token.Export(k.Export.Dir, k.Export.To)
	}
	panic("BUG: command " + command)
}
