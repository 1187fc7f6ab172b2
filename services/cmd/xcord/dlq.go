package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/xcord/xcord/services/messaging"
	"github.com/xcord/xcord/services/node"
)

// dlq is the tool for dead letters. It asks a running node over its private socket.
type dlq struct {
	Ls     dlqList   `cmd:"" help:"List dead letters."`
	Show   dlqShow   `cmd:"" help:"Show one, with what it holds."`
	Replay dlqReplay `cmd:"" help:"Store dead letters after all, under their own ids; what fails again stays."`
	Drop   dlqDrop   `cmd:"" help:"Forget dead letters."`
}

// dlqFilter chooses dead letters. The flags have no variables: a filter that stays in the environment would be a trap.
type dlqFilter struct {
	Group     string        `env:"-" default:"pg" help:"Of this group."`
	Error     string        `env:"-" help:"Whose error contains this."`
	Type      string        `env:"-" help:"Of this type, like MESSAGE_SENT."`
	From      string        `env:"-" help:"From this id on."`
	To        string        `env:"-" help:"Up to this id."`
	OlderThan time.Duration `env:"-" help:"Accepted longer ago than this, like 1h."`
	NewerThan time.Duration `env:"-" help:"Accepted less long ago than this."`
}

type dlqList struct {
	dlqFilter
	Limit  int    `env:"-" default:"100" help:"At most so many."`
	Cursor string `env:"-" help:"Go on where a list ended."`
	JSON   bool   `env:"-" name:"json" help:"For machines."`
}

type dlqShow struct {
	ID   string `arg:"" name:"id" help:"Whose."`
	JSON bool   `env:"-" name:"json" help:"For machines."`
}

type dlqReplay struct {
	IDs []string `arg:"" optional:"" name:"id" help:"These ones."`
	dlqFilter
	All  bool `env:"-" help:"All that the filters find, instead of ids."`
	JSON bool `env:"-" name:"json" help:"For machines."`
}

type dlqDrop struct {
	IDs []string `arg:"" optional:"" name:"id" help:"These ones."`
	dlqFilter
	All  bool `env:"-" help:"All that the filters find, instead of ids."`
	Yes  bool `env:"-" help:"Yes: they are acknowledged messages, and there is no other copy."`
	JSON bool `env:"-" name:"json" help:"For machines."`
}

// run asks the node whose settings these are.
func (c *dlq) run(ctx context.Context, command string, s *node.Settings, out io.Writer) error {
	socket, err := s.SocketPath()
	if err != nil {
		return err
	}
	d := newDesk(socket)
	switch command {
	case "dlq ls":
		return c.Ls.run(ctx, d, out)
	case "dlq show":
		return c.Show.run(ctx, d, out)
	case "dlq replay":
		return c.Replay.run(ctx, d, out)
	case "dlq drop":
		return c.Drop.run(ctx, d, out)
	}
	panic("BUG: command " + command)
}

// query is the filter as the node takes it.
func (f dlqFilter) query(now time.Time) (url.Values, error) {
	q := url.Values{}
	from, to := f.From, f.To
	// An id begins with the time at which the entry was accepted.
	if f.NewerThan != 0 {
		if from != "" {
			return nil, errors.New("--from and --newer-than exclude each other")
		}
		from = strconv.FormatInt(now.Add(-f.NewerThan).UnixMilli(), 10) + "-0"
	}
	if f.OlderThan != 0 {
		if to != "" {
			return nil, errors.New("--to and --older-than exclude each other")
		}
		to = strconv.FormatInt(now.Add(-f.OlderThan).UnixMilli(), 10) + "-0"
	}
	for name, v := range map[string]string{"group": f.Group, "error": f.Error, "type": f.Type, "from": from, "to": to} {
		if v != "" {
			q.Set(name, v)
		}
	}
	return q, nil
}

func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func (l *dlqList) run(ctx context.Context, d *desk, out io.Writer) error {
	q, err := l.query(time.Now())
	if err != nil {
		return err
	}
	q.Set("limit", strconv.Itoa(l.Limit))
	if l.Cursor != "" {
		q.Set("cursor", l.Cursor)
	}
	var page messaging.DeadPage
	if err := d.ask(ctx, http.MethodGet, "/dlq?"+q.Encode(), nil, &page); err != nil {
		return err
	}
	if l.JSON {
		return printJSON(out, page)
	}
	if len(page.Letters) == 0 && page.Next == "" {
		fmt.Fprintln(out, "There are no dead letters.")
		return nil
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tTYPE\tACCEPTED\tATTEMPTS\tBEHIND\tERROR") // tabwriter reports a failed write in Flush
	for _, e := range page.Letters {
		behind := e.Behind
		if behind == "" {
			behind = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\n", e.ID, e.Type, e.Accepted.Format(time.RFC3339), e.Attempts, behind, strconv.Quote(e.Error))
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print dead letters: %w", err)
	}
	if page.Next != "" {
		fmt.Fprintf(out, "There may be more: --cursor %s\n", page.Next)
	}
	return nil
}

func (s *dlqShow) run(ctx context.Context, d *desk, out io.Writer) error {
	var letter messaging.DeadLetter
	if err := d.ask(ctx, http.MethodGet, "/dlq/"+url.PathEscape(s.ID), nil, &letter); err != nil {
		return err
	}
	if s.JSON {
		return printJSON(out, letter)
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "id\t%s\ngroup\t%s\ntype\t%s\nerror\t%q\nattempts\t%d\naccepted\t%s\nburied\t%s\nbehind\t%s\nactor\t%s\nguild\t%s\nchannel\t%s\nbody\t%s\n",
		letter.ID, letter.Group, letter.Type, letter.Error, letter.Attempts, letter.Accepted.Format(time.RFC3339Nano),
		letter.Buried.Format(time.RFC3339Nano), letter.Behind, letter.Actor, letter.Guild, letter.Channel,
		strconv.Quote(letter.Body)) // quoted, so that what others wrote cannot steer a terminal
	return t.Flush()
}

func (r *dlqReplay) run(ctx context.Context, d *desk, out io.Writer) error {
	return order(ctx, d, out, "replay", "replayed", r.IDs, r.dlqFilter, r.All, r.JSON)
}

func (r *dlqDrop) run(ctx context.Context, d *desk, out io.Writer) error {
	if !r.Yes {
		return errors.New("dropped dead letters are gone, and they are acknowledged messages: look at them with show, then say --yes")
	}
	return order(ctx, d, out, "drop", "dropped", r.IDs, r.dlqFilter, r.All, r.JSON)
}

// order has dead letters replayed or dropped, page after page, and says what became of them. Failures make the exit code 1.
func order(ctx context.Context, d *desk, out io.Writer, action, done string, ids []string, f dlqFilter, all, asJSON bool) error {
	if all == (len(ids) > 0) {
		return errors.New("say either which ids, or --all with filters")
	}
	in := messaging.DeadOrder{IDs: ids}
	if all {
		q, err := f.query(time.Now())
		if err != nil {
			return err
		}
		in.Filter = q
	}
	total := messaging.DeadReport{Done: []string{}, Failed: []messaging.DeadFailure{}, Missing: []string{}}
	for {
		var report messaging.DeadReport
		if err := d.ask(ctx, http.MethodPost, "/dlq/"+action, in, &report); err != nil {
			return err
		}
		total.Done = append(total.Done, report.Done...)
		total.Failed = append(total.Failed, report.Failed...)
		total.Missing = append(total.Missing, report.Missing...)
		if report.Next == "" {
			break
		}
		in.Filter.Set("cursor", report.Next)
	}
	if asJSON {
		if err := printJSON(out, total); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(out, "%d %s\n", len(total.Done), done)
		for _, failure := range total.Failed {
			fmt.Fprintf(out, "%s stays: %s\n", failure.ID, strconv.Quote(failure.Error))
		}
		for _, i := range total.Missing {
			fmt.Fprintf(out, "%s is no dead letter\n", i)
		}
	}
	if n := len(total.Failed) + len(total.Missing); n > 0 {
		return fmt.Errorf("%d could not be %s", n, done)
	}
	return nil
}
