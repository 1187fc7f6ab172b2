package main

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/xcord/xcord/services/auth"
	"github.com/xcord/xcord/services/node"
)

// admin makes administrators. It asks a running node over its private socket: who may open that owns the installation.
type admin struct {
	Create adminCreate `cmd:"" help:"Make somebody an administrator, with a new account when nobody has the name."`
}

type adminCreate struct {
	Username string `arg:"" help:"Who."`
}

func (a *admin) run(ctx context.Context, s *node.Settings, out io.Writer) error {
	socket, err := s.SocketPath()
	if err != nil {
		return err
	}
	var made auth.MadeAdmin
	in := auth.AdminOrder{Username: a.Create.Username}
	if err := newDesk(socket).ask(ctx, http.MethodPost, "/admins", in, &made); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s is an administrator.\n", a.Create.Username)
	if made.Password != "" {
		fmt.Fprintf(out, "The account is new. Its password, which is not told again: %s\n", made.Password)
	}
	return nil
}
