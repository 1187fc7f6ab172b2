package messaging

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// malformed is an entry whose payload this service cannot read. It would fail again, so the writer sets it aside.
type malformed struct {
	at    bus.Position
	cause error
}

func (m *malformed) Error() string { return fmt.Sprintf("entry %s is malformed: %v", m.at, m.cause) }
func (m *malformed) Unwrap() error { return m.cause }

// idOf is the id of the message that an entry creates; ok is false where the log would never have put one.
func idOf(p bus.Position) (i id.ID, ok bool) {
	const seqMax = 4096
	if p.Ms < id.EpochMs || p.Seq >= seqMax {
		return 0, false
	}
	return bus.MessageID(p), true
}

// encode is json.Marshal without escapes for web pages: REST answers have none, and what is in the log, in the rows and in the
// answers shall be the same bytes.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// nonceHead is how a body in the log begins that has a nonce. The nonce is for the sender's other sessions, not for
// later readers, so it stands in front where it can be cut off again.
const nonceHead = `{"nonce":`

func withNonce(rest []byte, nonce wire.Nonce) []byte {
	if nonce == "" {
		return rest
	}
	out := make([]byte, 0, len(nonceHead)+len(nonce)+len(rest))
	out = append(append(append(out, nonceHead...), nonce...), ',')
	return append(out, rest[1:]...)
}

func withoutNonce(rest []byte) []byte {
	if !bytes.HasPrefix(rest, []byte(nonceHead)) {
		return rest
	}
	end := len(nonceHead)
	if end < len(rest) && rest[end] == '"' {
		for end++; end < len(rest) && rest[end] != '"'; end++ {
			if rest[end] == '\\' {
				end++
			}
		}
	}
	for end < len(rest) && rest[end] != ',' {
		end++
	}
	if end >= len(rest) {
		return rest // nothing but a nonce: not what this service writes
	}
	out := make([]byte, 0, len(rest)-end)
	out = append(out, '{')
	return append(out, rest[end+1:]...)
}

// bodyOf is the message in the payload of a MESSAGE_SENT or MESSAGE_UPDATED, as it is stored and told: without the nonce.
func bodyOf(at bus.Position, payload []byte) ([]byte, error) {
	var p struct {
		Message json.RawMessage `json:"message"`
	}
	if err := json.Unmarshal(payload, &p); err != nil {
		return nil, &malformed{at, err}
	}
	if len(p.Message) < 3 || p.Message[0] != '{' {
		return nil, &malformed{at, fmt.Errorf("no message in %d bytes", len(payload))}
	}
	return withoutNonce(p.Message), nil
}

// payloadOf reads the payload of an entry.
func payloadOf[T any](e bus.Entry) (*T, error) {
	p := new(T)
	if err := json.Unmarshal(e.Body, p); err != nil {
		return p, &malformed{e.Pos, err}
	}
	return p, nil
}

// updatedOf is the message that a MESSAGE_UPDATED or PINS_UPDATED is about, and its author, who need not be the actor.
func updatedOf(e bus.Entry) (message, author id.ID, err error) {
	var p struct {
		MessageID id.ID `json:"message_id"`
		Author    struct {
			ID id.ID `json:"id"`
		} `json:"author"`
	}
	if err := json.Unmarshal(e.Body, &p); err != nil {
		return 0, 0, &malformed{e.Pos, err}
	}
	if p.MessageID == 0 {
		return 0, 0, &malformed{e.Pos, fmt.Errorf("no message_id in %d bytes", len(e.Body))}
	}
	if p.Author.ID == 0 {
		p.Author.ID = e.Actor
	}
	return p.MessageID, p.Author.ID, nil
}

// deletedOf are the messages that a MESSAGE_DELETED is about.
func deletedOf(e bus.Entry) ([]id.ID, error) {
	var p wire.MessageDeletedPayload
	if err := json.Unmarshal(e.Body, &p); err != nil {
		return nil, &malformed{e.Pos, err}
	}
	return p.IDs, nil
}
