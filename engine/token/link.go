package token

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/xcord/xcord/engine/id"
)

const (
	linkContext = "xcord attachment link v1\n"
	linkDay     = 24 * time.Hour
	linkBytes   = 16 // of the signature

	// linkHead is how the address of an attachment begins in a message that is stored. It stands in no other place of a message: in a
	// text the quotes would be escaped, and addresses that people give are absolute.
	linkHead = `url":"` + linkRoot
	linkRoot = "/attachments/"
)

// Links makes the addresses of attachments good, and tells which are. Messages are stored with addresses that are good for nothing,
// and get the rest when they are shown, for one to two days: all of a day the same, so that an event is encoded once for everybody and
// a browser finds what it has. An address that has run out is made anew by reading the message again. Any number of goroutines
// may use it.
type Links struct {
	key  []byte
	base func() string
	now  func() time.Time
}

// NewLinks makes links with the key between services. base says what stands in front, like https://chat.example; nil as now is time.Now.
func NewLinks(keys Keys, base func() string, now func() time.Time) (*Links, error) {
	if len(keys.peer) < peerKeyBytes {
		return nil, errors.New("there is no key between services")
	}
	if now == nil {
		now = time.Now
	}
	h := hmac.New(sha256.New, keys.peer)
	_, _ = h.Write([]byte(linkContext)) // a hash never fails to write
	return &Links{key: h.Sum(nil), base: base, now: now}, nil
}

// Path is the address of an attachment as it is stored. name is already what may stand in a path.
func (*Links) Path(channel, attachment id.ID, name string) string {
	return linkRoot + channel.String() + "/" + attachment.String() + "/" + name
}

// Show is JSON with its addresses made good. Without any it is the same slice; it is never changed. Nil links leave all as it is.
func (l *Links) Show(stored []byte) []byte {
	at := bytes.Index(stored, []byte(linkHead))
	if at < 0 || l == nil {
		return stored
	}
	end := strconv.FormatInt(l.now().Truncate(linkDay).Add(2*linkDay).Unix(), 16)
	base := strings.TrimRight(l.base(), "/")
	out := make([]byte, 0, len(stored)+len(stored)/2)
	for ; at >= 0; at = bytes.Index(stored, []byte(linkHead)) {
		at += len(linkHead) - len(linkRoot)
		n := bytes.IndexByte(stored[at:], '"')
		if n < 0 {
			break // torn JSON, which is not ours to mend
		}
		path := stored[at : at+n]
		out = append(append(append(out, stored[:at]...), base...), path...)
		out = append(append(out, "?ex="...), end...)
		out = append(append(out, "&hm="...), l.sign(subject(path), end)...)
		stored = stored[at+n:]
	}
	return append(out, stored...)
}

// subject is what of a path is signed: channel and attachment. The name stands behind them for people.
func subject(path []byte) string {
	channel, rest, _ := strings.Cut(string(path[len(linkRoot):]), "/")
	attachment, _, _ := strings.Cut(rest, "/")
	return channel + "/" + attachment
}

func (l *Links) sign(subject, end string) string {
	h := hmac.New(sha256.New, l.key)
	_, _ = h.Write([]byte(subject + "\n" + end))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:linkBytes])
}

// Good says whether an address was made here and has not run out: by its ids and the two values of its query.
func (l *Links) Good(channel, attachment id.ID, ex, hm string) bool {
	if !hmac.Equal([]byte(hm), []byte(l.sign(channel.String()+"/"+attachment.String(), ex))) {
		return false
	}
	end, err := strconv.ParseInt(ex, 16, 64)
	return err == nil && l.now().Unix() < end
}
