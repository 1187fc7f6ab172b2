package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/obs"
	"github.com/xcord/xcord/engine/roster"
)

const auditMadeAdmin auditAction = "admin.made"

// AdminOrder asks for an administrator; Username is somebody's, or nobody's yet.
type AdminOrder struct {
	Username string `json:"username"`
}

// MadeAdmin is what the order came to. Password is of a new account; "" when there was one already.
type MadeAdmin struct {
	Password string `json:"password,omitempty"`
}

const (
	deskBodyBytes = 4 << 10
	// passwordBytes of a password that is made for somebody: 120 bits.
	passwordBytes = 15
)

// Desk makes administrators: POST /admins. It is for the private socket of a node, and for nobody else.
func (s *Service) Desk() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /admins", func(w http.ResponseWriter, r *http.Request) {
		var in AdminOrder
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, deskBodyBytes)).Decode(&in)
		var out any
		if err == nil {
			out, err = s.makeAdmin(r.Context(), in.Username)
		}
		status := http.StatusOK
		if err != nil {
			status, out = http.StatusBadRequest, map[string]string{"error": err.Error()}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(out) // who has gone needs no answer
	})
	return mux
}

// makeAdmin makes a person an administrator, and an account with a password for it when nobody has the name yet.
func (s *Service) makeAdmin(ctx context.Context, username string) (MadeAdmin, error) {
	var f form
	a := account{Version: 1, Username: f.username("username", username), Admin: true}
	if len(f.fields) > 0 {
		return MadeAdmin{}, fmt.Errorf("%q cannot be a username: %s", username, f.fields[0].Message)
	}
	e := auditEvent{Action: auditMadeAdmin, Details: map[string]string{"by": "socket"}}
	if uid, ok := obs.PeerUID(ctx); ok {
		e.Details["uid"] = strconv.Itoa(uid)
	}
	there, err := s.store.accountByLogin(ctx, a.Username)
	if err == nil {
		return MadeAdmin{}, s.promote(ctx, there, e)
	}
	if !fault.Is(err, fault.UnknownUser) {
		return MadeAdmin{}, err
	}
	made := MadeAdmin{Password: random(passwordBytes)}
	err = s.create(ctx, &a, made.Password, func(ctx context.Context, tx transaction) error {
		if err := endSetup(ctx, tx); err != nil {
			return err
		}
		e.Target = a.ID
		return audit(ctx, tx, e)
	})
	if errors.Is(err, roster.ErrLate) {
		return made, nil // the account is there: nobody would ever know its password otherwise
	}
	return made, err
}

func (s *Service) promote(ctx context.Context, a account, e auditEvent) error {
	return s.store.change(ctx, func(ctx context.Context, tx transaction) error {
		now, err := lockAccount(ctx, tx, a.ID)
		if err != nil {
			return err
		}
		now.Admin = true
		if err := updateAccount(ctx, tx, now); err != nil {
			return err
		}
		if err := endSetup(ctx, tx); err != nil {
			return err
		}
		e.Target = a.ID
		return audit(ctx, tx, e)
	})
}
