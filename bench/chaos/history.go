package chaos

import (
	"bufio"
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
	End     Op = "end"     // this client has seen the last message of every channel
)

// Kind is what a request wants.
type Kind string

// Kinds of requests.
const (
	Create Kind = "create"
	Edit   Kind = "edit"
	Delete Kind = "delete"
	Hide   Kind = "hide" // the channel from everybody but its owner
	Show   Kind = "show"
	Poison Kind = "poison" // an entry past the API that no writer can store
)

// Event is one line of a history. Which fields it has depends on Op.
type Event struct {
	Op     Op     `json:"op"`
	T      int64  `json:"t"` // ns of the machine's monotonic clock, one for all processes
	Client string `json:"c"`

	Call    int64  `json:"call,omitempty"` // joins an attempt with its answer; unique per client
	Kind    Kind   `json:"kind,omitempty"`
	Key     string `json:"key,omitempty"` // of the message; it is the nonce of the create, too
	Text    string `json:"text,omitempty"`
	Channel id.ID  `json:"ch,omitempty"`
	Message id.ID  `json:"m,omitempty"`
	Author  id.ID  `json:"a,omitempty"`
	Status  int    `json:"status,omitempty"`

	Session string `json:"session,omitempty"`
	Seq     int64  `json:"seq,omitempty"`
	Type    string `json:"type,omitempty"`
	Edited  string `json:"edited,omitempty"`

	T0    int64  `json:"t0,omitempty"`
	Limit int    `json:"limit,omitempty"`
	Page  []Seen `json:"page,omitempty"` // newest first
}

// Seen is a message of a page.
type Seen struct {
	Message id.ID  `json:"m"`
	Text    string `json:"text"`
}

// Row is a message as Postgres has it in the end.
type Row struct {
	ID, Channel, Author id.ID
	Content             string
}

// Final is the state after everything has healed and the writer has caught up.
type Final struct {
	Rows    []Row
	Dead    []id.ID // messages among the dead letters; 0 for an entry that is none
	Pending int64   // entries that the writer was given and has not acknowledged
	Lag     int64   // entries that it was not given
}

// History is what the checker judges.
type History struct {
	Events []Event // of one client in the client's order
	Flips  []id.ID // channels that are hidden and shown: what of them is delivered depends on when
	Final  Final
}

// text of a version of a message; keyOf is its inverse.
func text(key string, version int) string { return fmt.Sprintf("%s/%d", key, version) }

func keyOf(text string) string {
	key, _, _ := strings.Cut(text, "/")
	return key
}

// Decode reads the lines of one history file. A last line that a kill cut short is passed over.
func Decode(r io.Reader) (events []Event, err error) {
	lines := bufio.NewReaderSize(r, 1<<20)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
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
		events = append(events, e)
	}
}
