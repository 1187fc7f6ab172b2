package messaging

import (
	"bytes"
	"encoding/json"
)

// scanned is what one pass over the payload of a MESSAGE_SENT finds.
type scanned struct {
	body    []byte // of the message, with its nonce
	kind    int16
	content string
}

// sentHead is how this service's payloads begin.
const sentHead = `{"message":`

// scanSent reads a payload as this service writes it, in one pass: encoding/json takes longer over a message than Postgres over
// its row. It is sound and not complete: what it accepts is a valid message, and what it does not accept is for encoding/json to
// judge.
func scanSent(payload []byte) (scanned, bool) {
	if !bytes.HasPrefix(payload, []byte(sentHead)) {
		return scanned{}, false
	}
	s := scanner{b: payload, i: len(sentHead)}
	start := s.i
	if s.peek() != '{' || !s.object(0) {
		return scanned{}, false
	}
	s.out.body = payload[start:s.i]
	return s.out, len(s.out.body) > len("{}")
}

// scanner walks over compact JSON. Its methods move i behind what they read, or say no.
type scanner struct {
	b   []byte
	i   int
	out scanned
}

// scanDepthMax is far above the five levels of a message.
const scanDepthMax = 32

func (s *scanner) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *scanner) take(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.i++
	return true
}

func (s *scanner) object(depth int) bool {
	if s.i++; s.take('}') {
		return true
	}
	for {
		key, _, ok := s.text()
		if !ok || !s.take(':') {
			return false
		}
		if depth == 0 {
			ok = s.member(string(key))
		} else {
			ok = s.value(depth)
		}
		if !ok {
			return false
		}
		if s.take('}') {
			return true
		}
		if !s.take(',') {
			return false
		}
	}
}

// member reads a value of the message itself, and keeps what has a column of its own.
func (s *scanner) member(key string) bool {
	start := s.i
	switch key {
	case "content":
		text, escaped, ok := s.text()
		if !ok {
			return false
		}
		if !escaped {
			s.out.content = string(text)
			return true
		}
		return json.Unmarshal(s.b[start:s.i], &s.out.content) == nil
	case "type":
		if !s.number() {
			return false
		}
		return json.Unmarshal(s.b[start:s.i], &s.out.kind) == nil
	}
	return s.value(0)
}

func (s *scanner) value(depth int) bool {
	if depth == scanDepthMax {
		return false
	}
	switch s.peek() {
	case '"':
		_, _, ok := s.text()
		return ok
	case '{':
		return s.object(depth + 1)
	case '[':
		return s.array(depth + 1)
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	}
	return s.number()
}

func (s *scanner) array(depth int) bool {
	if s.i++; s.take(']') {
		return true
	}
	for {
		if !s.value(depth) {
			return false
		}
		if s.take(']') {
			return true
		}
		if !s.take(',') {
			return false
		}
	}
}

func (s *scanner) literal(word string) bool {
	if !bytes.HasPrefix(s.b[s.i:], []byte(word)) {
		return false
	}
	s.i += len(word)
	return true
}

// text reads a string and returns what is between its quotes.
func (s *scanner) text() (inner []byte, escaped, ok bool) {
	if !s.take('"') {
		return nil, false, false
	}
	start := s.i
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return s.b[start : s.i-1], escaped, true
		case c < ' ':
			return nil, false, false
		case c == '\\':
			escaped = true
			if !s.escape() {
				return nil, false, false
			}
		default:
			s.i++
		}
	}
	return nil, false, false
}

func (s *scanner) escape() bool {
	s.i++
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i++
		return true
	case 'u':
		s.i++
		for range 4 {
			if c := s.peek(); !isDigit(c) && (c|0x20 < 'a' || c|0x20 > 'f') {
				return false
			}
			s.i++
		}
		return true
	}
	return false
}

// number reads what RFC 8259 calls one.
func (s *scanner) number() bool {
	s.take('-')
	if !s.take('0') && !s.digits() {
		return false
	}
	if s.take('.') && !s.digits() {
		return false
	}
	if s.peek()|0x20 == 'e' {
		s.i++
		if !s.take('+') {
			s.take('-')
		}
		return s.digits()
	}
	return true
}

// digits reads at least one.
func (s *scanner) digits() bool {
	start := s.i
	for isDigit(s.peek()) {
		s.i++
	}
	return s.i > start
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
