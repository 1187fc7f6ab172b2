package messaging

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/obs"
	"github.com/xcord/xcord/engine/wire"
)

// DeadLetter is a dead letter as the admin socket tells it.
type DeadLetter struct {
	ID       string         `json:"id"`
	Group    string         `json:"group"`
	Type     wire.EventType `json:"type"`
	Error    string         `json:"error"`
	Attempts int            `json:"attempts"`
	Accepted time.Time      `json:"accepted"`
	Buried   time.Time      `json:"buried"`
	Behind   string         `json:"behind,omitempty"`
	Actor    id.ID          `json:"actor"`
	Guild    id.ID          `json:"guild"`
	Channel  id.ID          `json:"channel"`
	Body     string         `json:"body,omitempty"` // for one that is shown
}

// DeadPage is some dead letters; Next is the cursor to go on from, "" at the end.
type DeadPage struct {
	Letters []DeadLetter `json:"letters"`
	Next    string       `json:"next,omitempty"`
}

// DeadOrder says which dead letters are to be replayed or dropped: those of IDs, or those that a filter finds.
type DeadOrder struct {
	IDs []string `json:"ids,omitempty"`
	// Filter has the parameters of the list.
	Filter url.Values `json:"filter,omitempty"`
}

// DeadReport is what an order came to. With a filter there may be more to do, from Next on.
type DeadReport struct {
	Done   []string      `json:"done"`
	Failed []DeadFailure `json:"failed"`
	// Missing are ids of the order that are no dead letters.
	Missing []string `json:"missing"`
	Next    string   `json:"next,omitempty"`
}

// DeadFailure is a dead letter that could not be stored once more, and stays.
type DeadFailure struct {
	ID    string `json:"id"`
	Error string `json:"error"`
}

const (
	deskLimit     = 100
	deskLimitMax  = 1000
	deskBodyBytes = 1 << 20
)

// desk is the dead letters on the admin socket. Who may open that may read every message anyway; what is done here is written
// into the log with the user of the operating system who did it.
type desk struct {
	graves *graves
	store  store
}

// DeadLetters serves /dlq. It is for the private socket of a node, and for nobody else.
func (s *Service) DeadLetters() http.Handler {
	d := desk{graves: s.graves, store: s.store}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /dlq", d.list)
	mux.HandleFunc("GET /dlq/{id}", d.show)
	mux.HandleFunc("POST /dlq/replay", d.order("replay", d.graves.replay))
	mux.HandleFunc("POST /dlq/drop", d.order("drop", d.graves.drop))
	return mux
}

// mistake is what the caller did wrong.
type mistake struct{ error }

func reply(w http.ResponseWriter, body any, err error) {
	status := http.StatusOK
	var m mistake
	switch {
	case errors.As(err, &m):
		status = http.StatusBadRequest
	case err != nil:
		status = http.StatusServiceUnavailable
	case body == nil:
		status, err = http.StatusNotFound, errors.New("there is no such dead letter")
	}
	if err != nil {
		body = map[string]string{"error": err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // who has gone needs no answer
}

func audit(r *http.Request, action string, l bus.Letter, err error) {
	uid, ok := obs.PeerUID(r.Context())
	if !ok {
		uid = -1
	}
	slog.Info("audit: dead letter", "actor_uid", uid, "action", action, "group", groupName,
		"entry", l.Entry.Pos.String(), "type", string(l.Entry.Type), "done", err == nil)
}

// filterOf reads a list's parameters.
func filterOf(q url.Values) (f bus.LetterFilter, err error) {
	for name, values := range q {
		v := values[len(values)-1]
		var wrong error
		switch name {
		case "group":
			if v != groupName {
				wrong = fmt.Errorf("the only group is %s", groupName)
			}
		case "error":
			f.Error = v
		case "type":
			f.Type = wire.EventType(v)
		case "from":
			f.From, wrong = bus.ParsePosition(v)
		case "to":
			f.To, wrong = bus.ParsePosition(v)
		case "cursor":
			f.After, wrong = bus.ParsePosition(v)
		case "limit":
			if f.Limit, wrong = strconv.Atoi(v); wrong == nil && (f.Limit < 1 || f.Limit > deskLimitMax) {
				wrong = fmt.Errorf("want 1 to %d", deskLimitMax)
			}
		default:
			wrong = errors.New("there is no such parameter")
		}
		if wrong != nil {
			return f, mistake{fmt.Errorf("%s: %w", name, wrong)}
		}
	}
	if f.Limit == 0 {
		f.Limit = deskLimit
	}
	return f, nil
}

func (d desk) list(w http.ResponseWriter, r *http.Request) {
	f, err := filterOf(r.URL.Query())
	if err != nil {
		reply(w, nil, err)
		return
	}
	letters, next, err := d.graves.dead.List(r.Context(), f)
	page := DeadPage{Letters: []DeadLetter{}, Next: cursorOf(next)}
	for _, l := range letters {
		page.Letters = append(page.Letters, told(l))
	}
	reply(w, page, err)
}

func cursorOf(p bus.Position) string {
	if p.IsZero() {
		return ""
	}
	return p.String()
}

func told(l bus.Letter) DeadLetter {
	return DeadLetter{
		ID: l.Entry.Pos.String(), Group: l.Group, Type: l.Entry.Type, Error: l.Error, Attempts: l.Attempts,
		Accepted: l.Entry.Time().UTC(), Buried: l.Buried.UTC(), Behind: cursorOf(l.Behind),
		Actor: l.Entry.Actor, Guild: l.Entry.Guild, Channel: l.Entry.Channel,
	}
}

func (d desk) show(w http.ResponseWriter, r *http.Request) {
	at, err := bus.ParsePosition(r.PathValue("id"))
	if err != nil {
		reply(w, nil, mistake{err})
		return
	}
	l, ok, err := d.graves.dead.Get(r.Context(), at)
	if err != nil || !ok {
		reply(w, nil, err)
		return
	}
	audit(r, "show", l, nil)
	letter := told(l)
	letter.Body = string(l.Entry.Body)
	reply(w, letter, nil)
}

func (d desk) order(action string, do func(context.Context, store, []bus.Position) ([]outcome, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in DeadOrder
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, deskBodyBytes)).Decode(&in); err != nil {
			reply(w, nil, mistake{fmt.Errorf("the order cannot be read: %w", err)})
			return
		}
		at, next, err := d.chosen(r.Context(), in)
		if err != nil {
			reply(w, nil, err)
			return
		}
		outcomes, err := do(r.Context(), d.store, at)
		report := DeadReport{Done: []string{}, Failed: []DeadFailure{}, Missing: []string{}, Next: next}
		met := map[bus.Position]bool{}
		for _, o := range outcomes {
			audit(r, action, o.letter, o.err)
			met[o.letter.Entry.Pos] = true
			if o.err != nil {
				report.Failed = append(report.Failed, DeadFailure{ID: o.letter.Entry.Pos.String(), Error: o.err.Error()})
				continue
			}
			report.Done = append(report.Done, o.letter.Entry.Pos.String())
		}
		for _, p := range at {
			if !met[p] && in.Filter == nil {
				report.Missing = append(report.Missing, p.String())
			}
		}
		reply(w, report, err)
	}
}

func (d desk) chosen(ctx context.Context, in DeadOrder) (at []bus.Position, next string, err error) {
	if (in.Filter == nil) == (len(in.IDs) == 0) {
		return nil, "", mistake{errors.New("want either ids or a filter")}
	}
	if in.Filter == nil {
		for _, i := range in.IDs {
			p, err := bus.ParsePosition(i)
			if err != nil {
				return nil, "", mistake{err}
			}
			at = append(at, p)
		}
		return at, "", nil
	}
	f, err := filterOf(in.Filter)
	if err != nil {
		return nil, "", err
	}
	letters, more, err := d.graves.dead.List(ctx, f)
	return positions(letters), cursorOf(more), err
}
