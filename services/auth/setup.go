package auth

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

const (
	auditFirstAdmin auditAction = "admin.first"
	auditReset      auditAction = "user.password_reset"
)

// Where the page is that takes a code out of a link's fragment, which browsers send to nobody, and posts it.
const (
	setupPath = "/setup"
	resetPath = "/reset"
)

// page is one for both links; it is all there is in it.
//
//go:embed page.html
var page []byte

// pagePolicy lets nothing be loaded, and only the page's own script run.
var pagePolicy = "default-src 'none'; style-src 'unsafe-inline'; connect-src 'self'; form-action 'none'; base-uri 'none'; " +
	"frame-ancestors 'none'; script-src 'sha256-" + scriptHash(string(page)) + "'"

func scriptHash(page string) string {
	_, script, _ := strings.Cut(page, "<script>")
	script, _, _ = strings.Cut(script, "</script>")
	sum := sha256.Sum256([]byte(script))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func (s *Service) getPage(*rest.Call, rest.None) (rest.File, error) {
	return rest.File{Type: "text/html; charset=utf-8", Policy: pagePolicy, Cache: "no-store", Body: page}, nil
}

// offerSetup makes the code of the setup link, as long as there is no administrator: whatever makes one uses it up. The one before it
// is good no more: it was printed where nobody may look any longer.
func (s *Service) offerSetup(ctx context.Context) error {
	return s.store.change(ctx, func(ctx context.Context, tx transaction) error {
		has, err := hasAdmin(ctx, tx)
		if err != nil || has {
			return err
		}
		s.setupCode, err = replaceCode(ctx, tx, codeSetup, 0)
		return err
	})
}

// SetupPath is the one-time link for the first administrator, below the address of the server; "" when there is one. It is a
// secret: it is for the terminal of who has started the server, and not for a log. Call it after Start.
func (s *Service) SetupPath() string {
	if s.setupCode == "" {
		return ""
	}
	return setupPath + "#" + s.setupCode
}

// setup makes the first administrator. Nobody becomes one over the network in any other way.
func (s *Service) setup(c *rest.Call, in wire.Setup) (wire.LoggedIn, error) {
	// Before anything expensive, and before anything is said of names.
	err := s.store.change(c.Context(), func(ctx context.Context, tx transaction) error {
		_, err := ownerOf(ctx, tx, codeSetup, in.Code, "code")
		return err
	})
	if err != nil {
		return wire.LoggedIn{}, err
	}
	var f form
	a := newAccount(&f, wire.Register{Username: in.Username, Password: in.Password, Email: in.Email})
	if err := f.err(); err != nil {
		return wire.LoggedIn{}, err
	}
	a.Admin = true
	return s.enrol(c, a, in.Password, func(ctx context.Context, tx transaction) error {
		used, err := useCode(ctx, tx, codeSetup, in.Code)
		if err != nil || !used {
			return errors.Join(err, notACode("code"))
		}
		return audit(ctx, tx, auditEvent{Action: auditFirstAdmin, Address: c.RemoteAddr()})
	})
}

// reset sets a new password by a link that an administrator made. The second factor stays.
func (s *Service) reset(c *rest.Call, in wire.Reset) (rest.None, error) {
	var f form
	f.password("password", in.Password)
	if err := f.err(); err != nil {
		return rest.None{}, err
	}
	hash := ""
	var user account
	var ended []string
	step := func(ctx context.Context, tx transaction) error {
		owner, err := ownerOf(ctx, tx, codeReset, in.Code, "code")
		if err != nil || hash == "" {
			return err
		}
		if user, err = lockAccount(ctx, tx, owner); err != nil {
			return err
		}
		if used, err := useCode(ctx, tx, codeReset, in.Code); err != nil || !used {
			return errors.Join(err, notACode("code"))
		}
		user.Password = hash
		if err := updateAccount(ctx, tx, user); err != nil {
			return err
		}
		if ended, err = s.shutOut(ctx, tx, owner, ""); err != nil {
			return err
		}
		return audit(ctx, tx, auditEvent{Actor: owner, Action: auditReset, Target: owner, Address: c.RemoteAddr()})
	}
	// The code is looked at before the password is hashed, which is what somebody without one could make us do.
	err := s.store.change(c.Context(), step)
	if err != nil {
		return rest.None{}, err
	}
	if hash, err = s.hasher.hash(c.Context(), in.Password); err != nil {
		return rest.None{}, err
	}
	if err := s.store.change(c.Context(), step); err != nil {
		return rest.None{}, err
	}
	s.announceEnd(c.Context(), user.ID, ended...)
	return rest.None{}, nil
}
