package auth

import (
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/xcord/xcord/engine/fault"
)

// Lengths in Unicode code points. A password's upper bound keeps argon2's input small; the email's is RFC 5321's path.
const (
	usernameMin   = 2
	usernameMax   = 32
	globalNameMax = 32
	bioMax        = 190
	passwordMin   = 8
	passwordMax   = 128
	emailMax      = 254
)

// Field codes of this service; the general ones are in package fault.
const (
	codeUsernameTaken = "USERNAME_ALREADY_TAKEN"
	codeEmailTaken    = "EMAIL_ALREADY_REGISTERED"
	codeInvalidLogin  = "INVALID_LOGIN"
	codePassword      = "PASSWORD_DOES_NOT_MATCH"
	codeTwoFactor     = "TWO_FACTOR_INVALID_CODE"
	codeInvite        = "INVITE_CODE_INVALID"
	codeOnce          = "ONE_TIME_CODE_INVALID"
	codeEmail         = "EMAIL_TYPE_INVALID_EMAIL"
	codeUsername      = "USERNAME_INVALID_CHARACTERS"
)

// form collects the mistakes of a body.
type form struct{ fields []fault.Field }

func (f *form) bad(path, code, message string) {
	f.fields = append(f.fields, fault.Field{Path: path, Code: code, Message: message})
}

func (f *form) err() error {
	if len(f.fields) == 0 {
		return nil
	}
	return fault.Invalid(f.fields...)
}

// username trims a name and checks it.
func (f *form) username(path, name string) string {
	name = strings.TrimSpace(norm.NFC.String(name))
	switch n := utf8.RuneCountInString(name); {
	case name == "":
		f.bad(path, fault.FieldRequired, "This field is required")
	case n < usernameMin || n > usernameMax:
		f.bad(path, fault.FieldLength, "Must be between 2 and 32 in length.")
	case !printable(name) || strings.Contains(name, "@"): // an @ in a login makes it an email
		f.bad(path, codeUsername, "Username contains invalid characters.")
	}
	return name
}

// globalName trims a display name; an empty one is none.
func (f *form) globalName(path string, name *string) *string {
	if name == nil {
		return nil
	}
	s := strings.TrimSpace(norm.NFC.String(*name))
	switch {
	case s == "":
		return nil
	case utf8.RuneCountInString(s) > globalNameMax:
		f.bad(path, fault.FieldMaxLength, "Must be 32 or fewer in length.")
	case !printable(s):
		f.bad(path, codeUsername, "Name contains invalid characters.")
	}
	return &s
}

// bio trims what somebody says of themselves, which may have several lines; an empty one is none.
func (f *form) bio(path string, bio *string) *string {
	if bio == nil {
		return nil
	}
	s := strings.TrimSpace(norm.NFC.String(*bio))
	switch {
	case s == "":
		return nil
	case utf8.RuneCountInString(s) > bioMax:
		f.bad(path, fault.FieldMaxLength, "Must be 190 or fewer in length.")
	}
	return &s
}

func (f *form) password(path, password string) {
	switch n := utf8.RuneCountInString(password); {
	case password == "":
		f.bad(path, fault.FieldRequired, "This field is required")
	case n < passwordMin || n > passwordMax:
		f.bad(path, fault.FieldLength, "Must be between 8 and 128 in length.")
	}
}

// email checks an address as far as a program can without sending to it; an empty one is none.
func (f *form) email(path string, address *string) *string {
	if address == nil {
		return nil
	}
	s := strings.TrimSpace(*address)
	if s == "" {
		return nil
	}
	parsed, err := mail.ParseAddress(s)
	if err != nil || parsed.Address != s || len(s) > emailMax || !printable(s) {
		f.bad(path, codeEmail, "Not a well formed email address.")
	}
	return &s
}

// printable refuses control characters and what is invisible or not a character at all: two names that look the same
// would be different ones.
func printable(s string) bool {
	for _, r := range s {
		if r == utf8.RuneError || r != ' ' && !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// fold is the form in which names and addresses must be unique: case and compatibility variants are the same. Folding can
// denormalise, and normalising can bring up capitals again, so it takes two rounds to settle.
func fold(s string) string {
	for range 2 {
		s = cases.Fold().String(norm.NFKC.String(s))
	}
	return norm.NFKC.String(s)
}
