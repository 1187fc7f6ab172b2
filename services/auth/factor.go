package auth

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

const (
	auditFactorEnabled  auditAction = "mfa.enabled"
	auditFactorDisabled auditAction = "mfa.disabled"
	auditFactorRefused  auditAction = "mfa.refused"
	auditRecoveryUsed   auditAction = "mfa.recovery_used"
)

const (
	// recoveryCodes are told once; each has 80 bits, which need no slow hash.
	recoveryCodes     = 10
	recoveryCodeBytes = 10

	// failuresFree is how many wrong codes cost nothing. Then each doubles the pause, from half a minute to an hour: at most 24
	// tries a day at one of three codes in a million. Where a code was right lately, tries are counted for that place alone: who only has
	// the password, and is elsewhere, does not keep out whom the account belongs to.
	failuresFree   = 5
	failurePause   = 30 * time.Second
	failurePauseUp = time.Hour
)

// verdict is the outcome of a code. It is no error, because what it counts must be committed.
type verdict struct {
	ok       bool
	recovery bool          // it was a recovery code
	wait     time.Duration // too many were wrong: not looked at before this has passed
}

// err is what the client is told of a code that did not pass.
func (v verdict) err() error {
	if v.wait > 0 {
		return fault.RateLimited(v.wait)
	}
	return fault.Invalid(fault.Field{Path: "code", Code: codeTwoFactor, Message: "Code is invalid."})
}

// second judges a code of a user's second factor, and counts it. The account's row must be locked, so that a code is not used
// twice at the same time.
func (s *Service) second(ctx context.Context, tx transaction, user id.ID, f factor, code string) (verdict, error) {
	if wait := pauseAfter(f.failures) - f.failedFor; wait > 0 {
		return verdict{wait: wait}, nil
	}
	secret, err := s.deps.Sealer.Open(f.sealed, sealPlace(user))
	if err != nil {
		return verdict{}, fmt.Errorf("the second factor of user %s: %w", user, err)
	}
	code = plainCode(code)
	if step, ok := totpMatch(secret, code, time.Now(), f.lastStep); ok {
		return verdict{ok: true}, passed(ctx, tx, user, f, step)
	}
	if !f.confirmed {
		return verdict{}, failed(ctx, tx, user, f)
	}
	ok, err := useRecovery(ctx, tx, user, hashRecovery(user, code))
	if err != nil {
		return verdict{}, err
	}
	if ok {
		return verdict{ok: true, recovery: true}, passed(ctx, tx, user, f, 0)
	}
	return verdict{}, failed(ctx, tx, user, f)
}

// placeOf is where a client is, as wrong codes are counted; "" when an address says nothing, because everybody behind a proxy has it.
func placeOf(c *rest.Call) string {
	addr, counted := c.Client()
	if addr = addr.Unmap().WithZone(""); !counted {
		return ""
	}
	if addr.Is4() {
		return addr.String()
	}
	return netip.PrefixFrom(addr, 64).Masked().String()
}

// pauseAfter is how long nothing is tried after so many failures in a row.
func pauseAfter(failures int) time.Duration {
	if failures < failuresFree {
		return 0
	}
	return min(failurePause<<min(failures-failuresFree, 16), failurePauseUp)
}

// sealPlace ties a secret to its owner's row.
func sealPlace(user id.ID) string { return "totp:" + user.String() }

// plainCode undoes what people put between the characters.
func plainCode(code string) string {
	return strings.ToUpper(strings.NewReplacer(" ", "", "-", "").Replace(code))
}

func hashRecovery(user id.ID, plain string) []byte { return hashCode(user.String() + ":" + plain) }

// newRecovery makes recovery codes, as people get them and as they are stored.
func newRecovery(user id.ID) (shown []string, hashes [][]byte) {
	for range recoveryCodes {
		raw := make([]byte, recoveryCodeBytes)
		_, _ = rand.Read(raw) // never fails
		plain := base32Plain.EncodeToString(raw)
		shown = append(shown, strings.ToLower(plain[:4]+"-"+plain[4:8]+"-"+plain[8:12]+"-"+plain[12:]))
		hashes = append(hashes, hashRecovery(user, plain))
	}
	return shown, hashes
}

// offerFactor begins: it makes a secret, of which nothing comes before enableFactor.
func (s *Service) offerFactor(c *rest.Call, in wire.Password) (wire.TOTPSecret, error) {
	a, err := s.checkPassword(c, in.Password)
	if err != nil {
		return wire.TOTPSecret{}, err
	}
	secret := make([]byte, totpSecretBytes)
	_, _ = rand.Read(secret) // never fails
	err = s.store.change(c.Context(), func(ctx context.Context, tx transaction) error {
		if _, err := lockAccount(ctx, tx, a.ID); err != nil {
			return err
		}
		ok, err := offerTOTP(ctx, tx, a.ID, s.deps.Sealer.Seal(secret, sealPlace(a.ID)))
		if err == nil && !ok {
			err = &fault.Fault{Status: http.StatusBadRequest, Message: "A second factor is on already; turn it off first"}
		}
		return err
	})
	if err != nil {
		return wire.TOTPSecret{}, err
	}
	return wire.TOTPSecret{Secret: base32Plain.EncodeToString(secret), URI: totpURI(secret, a.Username)}, nil
}

// enableFactor turns the second factor on for whoever shows that the authenticator works.
func (s *Service) enableFactor(c *rest.Call, in wire.EnableTOTP) (wire.RecoveryCodes, error) {
	shown, hashes := newRecovery(c.User())
	var v verdict
	err := s.store.change(c.Context(), func(ctx context.Context, tx transaction) error {
		if _, err := lockAccount(ctx, tx, c.User()); err != nil {
			return err
		}
		f, ok, err := factorOf(ctx, tx, c.User(), placeOf(c))
		if err != nil {
			return err
		}
		if !ok || f.confirmed {
			return &fault.Fault{Status: http.StatusBadRequest, Message: "There is no second factor to be turned on"}
		}
		if v, err = s.second(ctx, tx, c.User(), f, in.Code); err != nil || !v.ok {
			return err
		}
		if err := addRecovery(ctx, tx, c.User(), hashes); err != nil {
			return err
		}
		return audit(ctx, tx, audited(c, auditFactorEnabled, c.User()))
	})
	if err == nil && !v.ok {
		err = v.err()
	}
	if err != nil {
		return wire.RecoveryCodes{}, err
	}
	return wire.RecoveryCodes{Codes: shown}, nil
}

func (s *Service) disableFactor(c *rest.Call, in wire.DisableTOTP) (rest.None, error) {
	if _, err := s.checkPassword(c, in.Password); err != nil {
		return rest.None{}, err
	}
	var v verdict
	err := s.store.change(c.Context(), func(ctx context.Context, tx transaction) error {
		var err error
		if v, err = s.proveFactor(ctx, tx, c, c.User(), in.Code); err != nil || !v.ok {
			return err
		}
		if err := dropFactor(ctx, tx, c.User()); err != nil {
			return err
		}
		return audit(ctx, tx, audited(c, auditFactorDisabled, c.User()))
	})
	if err == nil && !v.ok {
		err = v.err()
	}
	return rest.None{}, err
}

// proveFactor locks the account and judges a code of its second factor, which has to be on.
func (s *Service) proveFactor(ctx context.Context, tx transaction, c *rest.Call, user id.ID, code string) (verdict, error) {
	if _, err := lockAccount(ctx, tx, user); err != nil {
		return verdict{}, err
	}
	f, ok, err := factorOf(ctx, tx, user, placeOf(c))
	if err != nil {
		return verdict{}, err
	}
	if !ok || !f.confirmed {
		return verdict{}, &fault.Fault{Status: http.StatusBadRequest, Message: "There is no second factor"}
	}
	v, err := s.second(ctx, tx, user, f, code)
	switch {
	case err != nil:
		return v, err
	case v.recovery:
		return v, audit(ctx, tx, audited(c, auditRecoveryUsed, user))
	case !v.ok && v.wait == 0:
		return v, audit(ctx, tx, audited(c, auditFactorRefused, user))
	}
	return v, nil
}
