package chaos

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/xcord/xcord/engine/id"
)

// Op is what a line of a history tells.
type Op string

// What a client notes, at the moment at which it happens.
const (
	Send    Op = "send"    // an attempt of a request leaves
	Ret     Op = "ret"     // its answer, or that there is none: status 0
	Recv    Op = "recv"    // a dispatch of the gateway
	Resume  Op = "resume"  // RESUMED
	Invalid Op = "invalid" // INVALID_SESSION
	Read    Op = "read"    // a page of history, from T0 to T
	GiveUp  Op = "giveup"  // what this client wanted was not answered in all the time that it had
	End     Op = "end"     // this client has seen the last message of every channel
)

// Kind is what a request wants.
type Kind string

// Kinds of requests.
const (
	Create  Kind = "create"
	Edit    Kind = "edit"
	Delete  Kind = "delete"
	Hide    Kind = "hide" // the channel, from one guest or from all
	Show    Kind = "show"
	React   Kind = "react"
	Unreact Kind = "unreact"
	Clear   Kind = "clear" // all reactions under a message
	Pin     Kind = "pin"
	Unpin   Kind = "unpin"
	Raise   Kind = "raise" // the badge above the other role
	Lower   Kind = "lower"
	Poison  Kind = "poison" // an entry past the API that no writer can store
)

// Event is one line of a history. Which fields it has depends on Op.
type Event struct {
	Op     Op     `json:"op"`
	T      int64  `json:"t"` // ns of the machine's monotonic clock, one for all processes
	Client string `json:"c"`

	Call    int64  `json:"call,omitempty"` // joins an attempt with its answer; unique per client
	Kind    Kind   `json:"kind,omitempty"`
	Key     string `json:"key,omitempty"`  // of the message; it is the nonce of the create, too
	Text    string `json:"text,omitempty"` // of the message, or the emoji of a reaction
	Channel id.ID  `json:"ch,omitempty"`
	Message id.ID  `json:"m,omitempty"`
	Author  id.ID  `json:"a,omitempty"` // also who reacts; of a READY: whose session it is; of a page: who reads it
	User    id.ID  `json:"u,omitempty"` // from whom a channel is hidden, or to whom it is shown; 0: all guests
	Status  int    `json:"status,omitempty"`

	Session string `json:"session,omitempty"`
	Seq     int64  `json:"seq,omitempty"`
	Type    string `json:"type,omitempty"`
	Edited  string `json:"edited,omitempty"`
	Pinned  bool   `json:"pinned,omitempty"` // what a dispatch says of its message

	T0    int64  `json:"t0,omitempty"`
	Limit int    `json:"limit,omitempty"`
	Page  []Seen `json:"page,omitempty"` // newest first
}

// Seen is a message of a page.
type Seen struct {
	Message id.ID   `json:"m"`
	Text    string  `json:"text"`
	Pinned  bool    `json:"pinned,omitempty"`
	Counts  []Count `json:"counts,omitempty"` // by emoji
}

// Count is how many have reacted with an emoji, and whether the reader has.
type Count struct {
	Emoji string `json:"e"`
	N     int    `json:"n"`
	Me    bool   `json:"me,omitempty"`
}

// Mark is something that is there under a message or not: a reaction, or, without emoji and user, a pin.
type Mark struct {
	Message id.ID
	Emoji   string
	User    id.ID
}

func (k Mark) String() string {
	if k.Emoji == "" {
		return fmt.Sprintf("the pin of %s", k.Message)
	}
	return fmt.Sprintf("%s of %s under %s", k.Emoji, k.User, k.Message)
}

// Row is a message as Postgres has it in the end.
type Row struct {
	ID, Channel, Author id.ID
	Content             string
	Pinned              bool
	Announces           id.ID // of what the server has said of a pin: which message
}

// Final is the state after everything has healed and the writer has caught up.
type Final struct {
	Rows    []Row
	Marks   []Mark  // reactions and pins that are there
	Shown   []Seen  // all of history, as Reader is shown it
	Listed  []id.ID // messages that are listed as pinned
	Reader  id.ID
	Badge   id.ID // a role, which stands above another or, not Raised, below it
	Raised  bool
	Dead    []id.ID // messages among the dead letters; 0 for an entry that is none
	Pending int64   // entries that the writer was given and has not acknowledged
	Lag     int64   // entries that it was not given
	// Before and After are what the processes use at rest: before the first fault, and after the last has healed.
	Before, After Usage
}

// Usage is what all processes together use.
type Usage struct {
	Goroutines, Files, Bytes int64 // Bytes are resident memory
}

// Span is a time from From to To.
type Span struct{ From, To int64 }

// History is what the checker judges.
type History struct {
	Events []Event // in the order of their times, and of one client in the client's order
	// Flips are channels that are hidden from the Guests and shown to them: what of those is delivered to a guest depends on when.
	// Members always see them, and nobody else ever does.
	Flips, Guests, Members []id.ID
	// Troubled is when something was broken. There nothing has to be done by a certain time.
	Troubled []Span
	Final    Final
}

// announced is the key of what the server says of a pin: it has no text.
func announced(message id.ID) string { return fmt.Sprintf("announced-%s", message) }

// text of a version of a message; keyOf is its inverse.
func text(key string, version int) string { return fmt.Sprintf("%s/%d", key, version) }

func keyOf(text string) string {
	key, _, _ := strings.Cut(text, "/")
	return key
}

// Decode reads the lines of one history file. A last line that a kill cut short is passed over. There are millions of lines, but few
// names in them, and a text comes again with everybody who receives it: equal strings are kept once.
func Decode(r io.ReadSeeker) ([]Event, error) {
	count, err := countLines(r)
	if err != nil {
		return nil, err
	}
	events, strs := make([]Event, 0, count), map[string]string{}
	once := func(s *string) {
		known, ok := strs[*s]
		if !ok {
			known = strings.Clone(*s)
			strs[known] = known
		}
		*s = known
	}
	lines := bufio.NewReaderSize(r, 1<<20)
	for n := 1; ; n++ {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if err != nil {
			return nil, fmt.Errorf("history, line %d: %w", n, err)
		}
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("history, line %d: %w", n, err)
		}
		for _, s := range []*string{(*string)(&e.Op), (*string)(&e.Kind), &e.Client, &e.Key, &e.Text, &e.Session, &e.Type, &e.Edited} {
			once(s)
		}
		for i := range e.Page {
			once(&e.Page[i].Text)
			for j := range e.Page[i].Counts {
				once(&e.Page[i].Counts[j].Emoji)
			}
		}
		events = append(events, e)
	}
}

func countLines(r io.ReadSeeker) (n int, err error) {
	buf := make([]byte, 1<<20)
	for {
		got, err := r.Read(buf)
		n += bytes.Count(buf[:got], []byte{'\n'})
		if errors.Is(err, io.EOF) {
			_, err = r.Seek(0, io.SeekStart)
			return n, err
		}
		if err != nil {
			return 0, fmt.Errorf("history: %w", err)
		}
	}
}
