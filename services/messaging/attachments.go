package messaging

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/sync/errgroup"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/files"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

var (
	filesStored  = metrics.NewCounter(`xcord_messaging_attachments_total{op="store"}`)
	filesServed  = metrics.NewCounter(`xcord_messaging_attachments_total{op="serve"}`)
	filesMissing = metrics.NewCounter(`xcord_messaging_attachments_missing_total`)
	filesBytes   = metrics.NewCounter(`xcord_messaging_attachment_bytes_stored_total`)
)

// putsAtOnce is how many files of one message are brought to the store side by side.
const putsAtOnce = 4

// spoiler is how a name begins of what is hidden at first; older clients look for nothing else.
const spoiler = "SPOILER_"

// attachmentCache lets a browser keep what it has seen, and nobody in between: the address is a key to it.
const (
	attachmentCache  = "private, max-age=86400, immutable"
	attachmentPolicy = "sandbox; default-src 'none'"
)

// brought are the files of a request. They are stored before the message is judged for good, and given up if it comes to nothing.
type brought struct {
	attachments []wire.Attachment
	used        bool // by an entry of the log
}

func (b *brought) ids() []id.ID {
	ids := make([]id.ID, len(b.attachments))
	for i, a := range b.attachments {
		ids[i] = a.ID
	}
	return ids
}

// isIn says whether a message is the one that they were brought for.
func (b *brought) isIn(message []byte) bool {
	return len(b.attachments) > 0 && slices.Contains(filesIn(string(message)), int64(b.attachments[0].ID))
}

// needs is what their sender must be allowed besides.
func (b *brought) needs() perm.Bits {
	if len(b.attachments) == 0 {
		return 0
	}
	return perm.AttachFiles
}

// bring stores the files of a request, for a message in a channel where its sender may attach some.
func (s *Service) bring(c *rest.Call, meta []wire.AttachmentRequest, need perm.Bits) (*brought, error) {
	if len(c.Files()) == 0 {
		return new(brought), nil
	}
	grant, err := s.roster.Can(c.Context(), c.User(), c.ID("channel"), perm.ViewChannel|perm.AttachFiles|need)
	if err != nil {
		return nil, err
	}
	return s.bringTo(c.Context(), grant, c.User(), c.Files(), meta)
}

// bringTo stores files for a message in a channel. They count as the user's.
func (s *Service) bringTo(ctx context.Context, grant roster.Grant, user id.ID, uploads []rest.Upload, meta []wire.AttachmentRequest) (*brought, error) {
	if len(uploads) == 0 {
		return new(brought), nil
	}
	if s.files == nil {
		return nil, fault.Unavailable(errors.New("this process has no store of files"), 0)
	}
	uploads = slices.Clone(uploads)
	slices.SortFunc(uploads, func(a, b rest.Upload) int { return a.Index - b.Index })
	b := &brought{attachments: make([]wire.Attachment, len(uploads))}
	rows := make([]file, len(uploads))
	for i, u := range uploads {
		a, err := s.describe(ctx, u, metaOf(meta, u.Index))
		if err != nil {
			return nil, err
		}
		a.URL = s.links.Path(grant.Channel.ID, a.ID, url.PathEscape(a.Filename))
		a.ProxyURL = a.URL
		b.attachments[i] = a
		rows[i] = file{
			id: a.ID, channel: grant.Channel.ID, guild: grant.Guild.ID, user: user, key: files.NewKey(),
			name: a.Filename, contentType: a.ContentType, size: a.Size,
		}
	}
	if err := s.store.reserve(ctx, rows, s.config.UserFileBytes, s.config.FileBytes); err != nil {
		return nil, err
	}
	g, putCtx := errgroup.WithContext(ctx)
	g.SetLimit(putsAtOnce)
	for i, u := range uploads {
		g.Go(func() error { return s.files.Put(putCtx, rows[i].key, u.Path) })
	}
	if err := g.Wait(); err != nil {
		s.giveUp(ctx, b)
		return nil, fault.Unavailable(err, time.Second)
	}
	for _, a := range b.attachments {
		filesStored.Inc()
		filesBytes.Add(int(a.Size))
	}
	return b, nil
}

// describe is what a message says of a file.
func (s *Service) describe(ctx context.Context, u rest.Upload, meta *wire.AttachmentRequest) (wire.Attachment, error) {
	k, err := sniff(u.Path)
	if err != nil {
		return wire.Attachment{}, fmt.Errorf("look at a file: %w", err)
	}
	a := wire.Attachment{Filename: u.Name, Size: u.Size, ContentType: k.contentType, Width: k.width, Height: k.height}
	if meta != nil {
		a.Title, a.Description = meta.Title, meta.Description
		if meta.Filename != nil {
			a.Filename = rest.FileName(*meta.Filename)
		}
		if meta.IsSpoiler && !strings.HasPrefix(a.Filename, spoiler) {
			a.Filename = rest.FileName(spoiler + a.Filename)
		}
	}
	if strings.HasPrefix(a.Filename, spoiler) {
		a.Flags |= wire.AttachmentSpoiler
	}
	a.ID, err = s.ids.Next(ctx)
	if err != nil {
		return wire.Attachment{}, unavailable("number a file", err)
	}
	return a, nil
}

func metaOf(meta []wire.AttachmentRequest, index int) *wire.AttachmentRequest {
	for i := range meta {
		if *meta[i].ID == id.ID(index) {
			return &meta[i]
		}
	}
	return nil
}

// settle gives files up that no entry has and none will have. Where that is not known, as after a time-out, the collector finds out.
func (s *Service) settle(ctx context.Context, b *brought, err error) {
	if b == nil || b.used || len(b.attachments) == 0 || err != nil && fault.From(err).Status >= 500 {
		return
	}
	s.giveUp(ctx, b)
}

// giveUp releases files, also when the request's own time is over.
func (s *Service) giveUp(ctx context.Context, b *brought) {
	var ids []int64
	for _, a := range b.attachments {
		ids = append(ids, int64(a.ID))
	}
	if _, err := s.store.release(context.WithoutCancel(ctx), ids); err != nil {
		slog.Warn("files of a message that was refused stay until the collector finds them", "files", len(ids), "err", err)
	}
}

// mustBeFiles refuses what is said of files that are not there. kept are those that the message has already.
func mustBeFiles(meta []wire.AttachmentRequest, uploads []rest.Upload, kept []wire.Attachment) error {
	var wrong []fault.Field
	for i, m := range meta {
		isUpload := slices.ContainsFunc(uploads, func(u rest.Upload) bool { return id.ID(u.Index) == *m.ID })
		isKept := slices.ContainsFunc(kept, func(a wire.Attachment) bool { return a.ID == *m.ID })
		twice := slices.ContainsFunc(meta[:i], func(other wire.AttachmentRequest) bool { return *other.ID == *m.ID })
		if !isUpload && !isKept || twice {
			wrong = append(wrong, fault.Field{
				Path: "attachments." + strconv.Itoa(i) + ".id", Code: fault.FieldChoices, Message: "There is no such attachment, or it stands here twice",
			})
		}
	}
	if wrong != nil {
		return fault.Invalid(wrong...)
	}
	return nil
}

// keep is what an edit leaves of the attachments that a message has, with those it brings: all, unless it says which.
func keep(have []wire.Attachment, in wire.Optional[[]wire.AttachmentRequest], uploads []rest.Upload, b *brought) ([]wire.Attachment, error) {
	kept := have
	if in.Set {
		if err := mustBeFiles(in.Value, uploads, have); err != nil {
			return nil, err
		}
		kept = nil
		for _, m := range in.Value {
			i := slices.IndexFunc(have, func(a wire.Attachment) bool { return a.ID == *m.ID })
			if i < 0 {
				continue // one that it brings
			}
			a := have[i]
			if m.Description != nil {
				a.Description = m.Description
			}
			if m.Title != nil {
				a.Title = m.Title
			}
			kept = append(kept, a)
		}
	}
	all := slices.Concat(kept, b.attachments)
	if len(all) > wire.AttachmentsMax {
		return nil, fault.Invalid(fault.Field{
			Path: "attachments", Code: fault.FieldMaxLength, Message: fmt.Sprintf("Must be %d or fewer in length.", wire.AttachmentsMax),
		})
	}
	return all, nil
}

// getAttachment serves a file to whoever has an address that is good. Whatever is wrong, the answer is that there is nothing.
func (s *Service) getAttachment(c *rest.Call, in wire.GetAttachment) (rest.Download, error) {
	channel, attachment := c.ID("channel"), c.ID("attachment")
	if s.files == nil || !s.links.Good(channel, attachment, in.Ends, in.Signature) {
		return rest.Download{}, fault.NotFound()
	}
	f, err := s.store.attachment(c.Context(), channel, attachment)
	if err != nil {
		return rest.Download{}, err
	}
	if f.name != c.Param("name") {
		return rest.Download{}, fault.NotFound()
	}
	if _, deleted, _ := s.overlay.look(channel, f.message); deleted {
		return rest.Download{}, fault.NotFound() // the writer has yet to hear of it
	}
	filesServed.Inc()
	return rest.Download{
		Type: f.contentType, Name: f.name, Inline: shown(f.contentType), Size: f.size, Tag: f.id.String(),
		Policy: attachmentPolicy, Cache: attachmentCache,
		Open: func(from, n int64) (io.ReadCloser, error) { return s.open(c.Context(), f, from, n) },
	}, nil
}

// open reads from the store for longer than the request has: it is sent when the handler has returned.
func (s *Service) open(ctx context.Context, f file, from, n int64) (io.ReadCloser, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute+rest.DownloadTime(n))
	body, err := s.files.Open(ctx, f.key, from, n)
	if err != nil {
		cancel()
		if errors.Is(err, files.ErrMissing) {
			filesMissing.Inc()
			slog.Error("a file is missing in the store", "attachment", f.id.String())
			return nil, fault.NotFound()
		}
		return nil, fault.Unavailable(err, time.Second)
	}
	return sent{body, cancel}, nil
}

// sent ends the reading with the sending.
type sent struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (s sent) Close() error {
	defer s.cancel()
	return s.ReadCloser.Close()
}

// linked is a handler whose answer has messages in it: their attachments get addresses that are good.
func linked[In any](h func(*Service, *rest.Call, In) (rest.Raw, error)) func(*Service, *rest.Call, In) (rest.Raw, error) {
	return func(s *Service, c *rest.Call, in In) (rest.Raw, error) {
		out, err := h(s, c, in)
		return s.links.Show(out), err
	}
}
