package guilds

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

// openChannel opens a DM with one user, or makes a group with several.
func (s *Service) openChannel(c *rest.Call, in wire.OpenChannel) (wire.PrivateChannel, error) {
	var others []id.ID
	for _, u := range in.Recipients {
		if u != c.User() && !slices.Contains(others, u) {
			others = append(others, u)
		}
	}
	switch {
	case in.RecipientID != 0:
		return s.openDM(c, in.RecipientID)
	case len(in.Recipients) == 0:
		return wire.PrivateChannel{}, fault.Invalid(fault.Field{Path: "recipient_id", Code: fault.FieldRequired, Message: "This field is required"})
	case len(others) == 0:
		return wire.PrivateChannel{}, fault.New(fault.InvalidRecipients)
	case len(others) == 1:
		return s.openDM(c, others[0])
	}
	return s.openGroup(c, others)
}

// openDM makes the DM of two users, or shows the one that there is to who asks. The other one sees it with the first message.
func (s *Service) openDM(c *rest.Call, other id.ID) (out wire.PrivateChannel, err error) {
	ctx, user := c.Context(), c.User()
	faces, err := s.facesOf(ctx, user, other)
	if err != nil {
		return out, err
	}
	if other == user {
		return out, fault.New(fault.InvalidRecipients)
	}
	pair := pairOf(user, other)
	channel, err := s.store.directOf(ctx, pair)
	if err != nil {
		return out, err
	}
	if channel == 0 {
		if err := s.mayReach(ctx, faces, user, other); err != nil {
			return out, err
		}
		d := wire.Direct{Type: wire.ChannelDM, Recipients: []id.ID{user, other}, Closed: map[id.ID]id.ID{other: 0}}
		if channel, err = s.insertDM(c, d, pair, faces); err != nil {
			return out, err
		}
	}
	err = s.changeDirect(ctx, user, channel, func(w *directChange) error {
		if !w.Shows(user, w.last) {
			w.Closed = maps.Clone(w.Closed)
			delete(w.Closed, user)
			w.came = []id.ID{user}
		}
		out = w.For(user, w.last, faces)
		return nil
	})
	return out, err
}

// pairOf names two users in one way.
func pairOf(a, b id.ID) string { return min(a, b).String() + "," + max(a, b).String() }

// facesOf are users that must all exist: who does not is an invalid recipient, but for the first, who asks.
func (s *Service) facesOf(ctx context.Context, user id.ID, others ...id.ID) (map[id.ID]wire.User, error) {
	faces := map[id.ID]wire.User{}
	for _, u := range append([]id.ID{user}, others...) {
		face, err := s.roster.User(ctx, u)
		if fault.Is(err, fault.UnknownUser) && u != user {
			err = fault.New(fault.InvalidRecipients)
		}
		if err != nil {
			return nil, err
		}
		faces[u] = face
	}
	return faces, nil
}

// mayReach answers 50007 unless a user shares a guild with another one. Two bots have nothing to say to each other.
func (s *Service) mayReach(ctx context.Context, faces map[id.ID]wire.User, user, other id.ID) error {
	ok, err := s.roster.Reachable(ctx, user, other)
	if err == nil && (!ok || faces[user].Bot && faces[other].Bot) {
		err = fault.New(fault.CannotMessageUser)
	}
	return err
}

// openGroup makes a group, which all in it see at once.
func (s *Service) openGroup(c *rest.Call, others []id.ID) (out wire.PrivateChannel, err error) {
	ctx, user := c.Context(), c.User()
	faces, err := s.facesOf(ctx, user, others...)
	if err != nil {
		return out, err
	}
	if faces[user].Bot {
		return out, fault.New(fault.NotForBots)
	}
	for _, u := range others {
		if err := s.mayAdd(ctx, faces, user, u); err != nil {
			return out, err
		}
	}
	d := wire.Direct{Type: wire.ChannelGroupDM, Recipients: append([]id.ID{user}, others...), OwnerID: user}
	channel, err := s.insertGroup(c, &d, faces)
	if err != nil {
		return out, err
	}
	d.ID = channel
	return d.For(user, 0, faces), nil
}

// mayAdd says whether a user can bring another one into a group: a person, whom they can reach.
func (s *Service) mayAdd(ctx context.Context, faces map[id.ID]wire.User, user, other id.ID) error {
	if faces[other].Bot {
		return fault.New(fault.InvalidRecipients)
	}
	return s.mayReach(ctx, faces, user, other)
}

func (s *Service) insertGroup(c *rest.Call, d *wire.Direct, faces map[id.ID]wire.User) (id.ID, error) {
	return s.insertDirect(c, *d, "", wire.DirectChangedPayload{Came: d.Recipients}, faces)
}

func (s *Service) insertDM(c *rest.Call, d wire.Direct, pair string, faces map[id.ID]wire.User) (id.ID, error) {
	return s.insertDirect(c, d, pair, wire.DirectChangedPayload{Came: []id.ID{c.User()}}, faces)
}

// insertDirect makes a direct channel. When the pair has one by now, because the other one or another of the user's clients was faster, it
// answers that.
func (s *Service) insertDirect(c *rest.Call, d wire.Direct, pair string, p wire.DirectChangedPayload, faces map[id.ID]wire.User) (id.ID, error) {
	ctx := c.Context()
	var err error
	if d.ID, err = s.ids.Next(ctx); err != nil {
		return 0, outage("open a channel", err)
	}
	release, err := s.turns.take(ctx, d.ID)
	if err != nil {
		return 0, err
	}
	defer release()
	if err := s.outbox.Ready(ctx); err != nil {
		return 0, err
	}
	p.Direct, p.Users = d, usersOf(faces)
	entry := directEntry(c.User(), 1, p)
	made := false
	err = s.store.transact(ctx, func(tx transaction) (bool, error) {
		if made, err = insertDirect(ctx, tx, &d, pair); err != nil || !made {
			return false, err
		}
		return true, s.outbox.Record(ctx, tx, entry)
	})
	switch {
	case err != nil:
		refusedTotal.Inc()
		return 0, err
	case !made:
		return s.store.directOf(ctx, pair)
	}
	if _, err := s.outbox.Settle(ctx, entry); err != nil {
		return 0, err
	}
	changedTotal.Inc()
	return d.ID, nil
}

func usersOf(faces map[id.ID]wire.User) []wire.User {
	users := make([]wire.User, 0, len(faces))
	for _, u := range slices.Sorted(maps.Keys(faces)) {
		users = append(users, faces[u])
	}
	return users
}

func directEntry(actor id.ID, version int64, p wire.DirectChangedPayload) bus.Entry {
	body, err := json.Marshal(p)
	if err != nil {
		panic("BUG: a payload does not encode: " + err.Error())
	}
	return bus.Entry{Type: wire.DirectChanged, Actor: actor, Channel: p.Direct.ID, Version: version, Body: body}
}

// directChange is one version of a direct channel in the making: its row is locked. What do writes into it is what the channel becomes; its
// lists are to be replaced, not written.
type directChange struct {
	wire.Direct
	last       id.ID   // the latest message
	came, went []id.ID // for whom the channel is there from now on, or no more
	renamed    bool
}

// changeDirect runs do with a direct channel locked that the user is in (else 50001), and answers when what do did is in the log. Unless do
// says who came or went, or that it was renamed, everything stays as it was.
func (s *Service) changeDirect(ctx context.Context, user, channel id.ID, do func(w *directChange) error) error {
	start := time.Now()
	release, err := s.turns.take(ctx, channel)
	if err != nil {
		return err
	}
	defer release()
	if err := s.outbox.Ready(ctx); err != nil {
		return err
	}
	var entry bus.Entry
	err = s.store.transact(ctx, func(tx transaction) (bool, error) {
		d, version, err := lockDirect(ctx, tx, channel)
		if err != nil {
			return false, err
		}
		if !d.Has(user) {
			return false, fault.New(fault.MissingAccess)
		}
		w := &directChange{Direct: d}
		if w.last, err = s.settled(ctx, tx, channel, version); err != nil {
			return false, err
		}
		if err := do(w); err != nil || len(w.came)+len(w.went) == 0 && !w.renamed {
			return false, err
		}
		if entry, err = s.directChanged(ctx, w, user, version+1); err != nil {
			return false, err
		}
		if err := updateDirect(ctx, tx, &w.Direct, version+1); err != nil {
			return false, err
		}
		return true, s.outbox.Record(ctx, tx, entry)
	})
	return s.conclude(ctx, start, entry, err)
}

// settled answers a direct channel's latest message when the log has its version: somebody may have committed and not got to the log.
func (s *Service) settled(ctx context.Context, tx transaction, channel id.ID, version int64) (last id.ID, err error) {
	found, _, err := s.roster.LookDirects(ctx, []id.ID{channel})
	if err != nil {
		return 0, err
	}
	if len(found) > 0 && found[0].Version >= version {
		return found[0].Last, nil
	}
	if err := s.outbox.CatchUpDirect(ctx, tx, channel); err != nil {
		return 0, err
	}
	return s.lastOf(ctx, channel)
}

// lastOf is a direct channel's latest message.
func (s *Service) lastOf(ctx context.Context, channel id.ID) (id.ID, error) {
	found, _, err := s.roster.LookDirects(ctx, []id.ID{channel})
	if err != nil || len(found) == 0 {
		return 0, err
	}
	return found[0].Last, nil
}

func (s *Service) directChanged(ctx context.Context, w *directChange, actor id.ID, version int64) (bus.Entry, error) {
	faces, err := s.roster.Users(ctx, slices.Concat(w.Recipients, w.went))
	if err != nil {
		return bus.Entry{}, fmt.Errorf("read who is in channel %s: %w", w.ID, err)
	}
	return directEntry(actor, version, wire.DirectChangedPayload{
		Direct: w.Direct, Users: usersOf(faces), Came: w.came, Went: w.went, LastMessageID: w.last,
	}), nil
}

// listDirects answers the direct channels that the caller has not closed.
func (s *Service) listDirects(c *rest.Call, _ rest.None) ([]wire.PrivateChannel, error) {
	directs, err := s.roster.DirectsOf(c.Context(), c.User())
	if err != nil {
		return nil, err
	}
	return s.roster.Privates(c.Context(), c.User(), directs)
}

// showDirect is a direct channel as its recipient sees it.
func (s *Service) showDirect(ctx context.Context, user id.ID, d *wire.Direct) (wire.PrivateChannel, error) {
	last, err := s.lastOf(ctx, d.ID)
	if err != nil {
		return wire.PrivateChannel{}, err
	}
	faces, err := s.roster.Users(ctx, d.Recipients)
	return d.For(user, last, faces), err
}

// renameDirect names a group; null takes the name. A DM has none.
func (s *Service) renameDirect(c *rest.Call, in wire.UpdateChannel) (out wire.PrivateChannel, err error) {
	ctx, user := c.Context(), c.User()
	var d wire.Direct
	err = s.changeDirect(ctx, user, c.ID("channel"), func(w *directChange) error {
		if w.Type != wire.ChannelGroupDM {
			return fault.New(fault.NotOnDM)
		}
		if name := in.Name.Ptr(); in.Name.Set && or(name, "") != or(w.Name, "") {
			if w.Name, w.renamed = name, true; or(name, "") == "" {
				w.Name = nil
			}
		}
		d = w.Direct
		return nil
	})
	if err != nil {
		return out, err
	}
	return s.showDirect(ctx, user, &d)
}

// closeDirect closes a DM for who asks, until somebody writes, and lets who asks leave a group.
func (s *Service) closeDirect(c *rest.Call) (out wire.PrivateChannel, err error) {
	ctx, user := c.Context(), c.User()
	var d wire.Direct
	err = s.changeDirect(ctx, user, c.ID("channel"), func(w *directChange) error {
		d = w.Direct
		if w.Type == wire.ChannelGroupDM {
			w.leave(user)
			return nil
		}
		if w.Shows(user, w.last) {
			w.Closed = maps.Clone(w.Closed)
			if w.Closed == nil {
				w.Closed = map[id.ID]id.ID{}
			}
			w.Closed[user], w.went = w.last, []id.ID{user}
		}
		return nil
	})
	if err != nil {
		return out, err
	}
	return s.showDirect(ctx, user, &d)
}

// leave takes a user out of a group. When it is the owner, who came next owns it.
func (w *directChange) leave(user id.ID) {
	w.Recipients, w.went = w.Others(user), []id.ID{user}
	if w.OwnerID == user {
		w.OwnerID = 0
		if len(w.Recipients) > 0 {
			w.OwnerID = w.Recipients[0]
		}
	}
}

// changeGroup is changeDirect for the group in the path; other channels answer 50024, but only to who may see them.
func (s *Service) changeGroup(c *rest.Call, do func(w *directChange) error) error {
	grant, err := s.roster.Can(c.Context(), c.User(), c.ID("channel"), 0)
	if err != nil {
		return err
	}
	if grant.Channel.Type != wire.ChannelGroupDM {
		return fault.New(fault.WrongChannelType)
	}
	return s.changeDirect(c.Context(), c.User(), grant.Channel.ID, do)
}

// addRecipient brings somebody into a group, by anybody who is in it.
func (s *Service) addRecipient(c *rest.Call, _ rest.None) (rest.None, error) {
	ctx, other := c.Context(), c.ID("user")
	return rest.None{}, s.changeGroup(c, func(w *directChange) error {
		if w.Has(other) {
			return nil
		}
		faces, err := s.facesOf(ctx, c.User(), other)
		if err != nil {
			return err
		}
		if err := s.mayAdd(ctx, faces, c.User(), other); err != nil {
			return err
		}
		if len(w.Recipients) >= wire.RecipientsMax {
			return fault.New(fault.InvalidRecipients)
		}
		w.Recipients, w.came = append(slices.Clone(w.Recipients), other), []id.ID{other}
		return nil
	})
}

// removeRecipient takes somebody out of a group: the owner whom they will, others only themselves.
func (s *Service) removeRecipient(c *rest.Call, _ rest.None) (rest.None, error) {
	other := c.ID("user")
	return rest.None{}, s.changeGroup(c, func(w *directChange) error {
		switch {
		case other != c.User() && w.OwnerID != c.User():
			return fault.New(fault.MissingPermissions)
		case !w.Has(other):
			return fault.New(fault.InvalidRecipients)
		}
		w.leave(other)
		return nil
	})
}
