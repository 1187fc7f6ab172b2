package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/xcord/xcord/engine/wire"
	"github.com/xcord/xcord/services/node"
)

// sockets is for who wants to know where somebody is connected. It asks a running node with a gateway over its private socket.
type sockets struct {
	User string `arg:"" help:"Whose, by id."`
	JSON bool   `env:"-" name:"json" help:"For machines."`
}

func (k *sockets) run(ctx context.Context, s *node.Settings, out io.Writer) error {
	socket, err := s.SocketPath()
	if err != nil {
		return err
	}
	list := wire.List[wire.UserSocket]{}
	if err := newDesk(socket).ask(ctx, http.MethodGet, "/sockets/"+url.PathEscape(k.User), nil, &list); err != nil {
		return err
	}
	if k.JSON {
		return printJSON(out, list)
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "GATEWAY\tSESSION\tSTATUS\tSINCE") // tabwriter reports a failed write in Flush
	for _, e := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", e.Gateway, e.SessionID, e.Status, e.Since.Time().Format(time.RFC3339))
	}
	return t.Flush()
}
