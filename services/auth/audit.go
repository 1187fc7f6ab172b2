package auth

import (
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/rest"
)

// auditAction names what happened: "thing.verb". Whoever has something to tell adds a constant beside it.
type auditAction string

// auditEvent is one line of the audit log.
type auditEvent struct {
	Actor   id.ID // who did it; 0 is nobody whom we know
	Action  auditAction
	Target  id.ID  // the user or application it was done to; 0 is none
	Address string // the client's

	// Details are short facts by name. Never among them: a password, token, code, or anything that a client wrote.
	Details map[string]string
}

// audited is the event of a request.
func audited(c *rest.Call, action auditAction, target id.ID) auditEvent {
	return auditEvent{Actor: c.User(), Action: action, Target: target, Address: c.RemoteAddr()}
}
