package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/xcord/xcord/engine/files"
)

// spoolDir is where attachments are while they arrive: on the file system on which a local store keeps them.
func (n *Node) spoolDir() (string, error) {
	dir, err := n.settings.filesDir()
	return filepath.Join(dir, "spool"), err
}

// filesWait is how long the store of attachments may take to answer at the start.
const filesWait = 5 * time.Second

// openFiles opens the store of attachments. One that cannot be asked keeps nothing else from starting, but is told of: a wrong key is
// better found now than by whoever attaches something first.
func (n *Node) openFiles(ctx context.Context) (files.Store, error) {
	store, err := n.fileStore()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, filesWait)
	defer cancel()
	if err := store.Ping(ctx); err != nil {
		slog.Warn("the store of attachments cannot be asked, and attachments may be refused", "err", err)
	}
	return store, nil
}

func (n *Node) fileStore() (files.Store, error) {
	spool, err := n.spoolDir()
	if err != nil {
		return nil, err
	}
	if err := files.Spool(spool); err != nil {
		return nil, err
	}
	if n.settings.FilesS3 == "" {
		return files.OpenLocal(filepath.Join(filepath.Dir(spool), "store"))
	}
	store, err := files.OpenS3(n.settings.s3())
	if err != nil {
		return nil, err
	}
	n.closers = append(n.closers, store.Close)
	return store, nil
}

// linkBase is what stands in front of the addresses of attachments. They are the same for everybody, so what single clients have used
// does not count; without a public address they are good on this machine.
func (n *Node) linkBase() string {
	s := n.settings
	if s.PublicURL != "" {
		return s.PublicURL
	}
	scheme := "http"
	if s.tls("") != nil {
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(n.rest.Addr())
	if err != nil || !s.Runs(Gateway) {
		return "" // nobody is served yet, or no messages
	}
	if len(s.ACMEDomain) > 0 {
		return fmt.Sprintf("%s://%s", scheme, s.ACMEDomain[0])
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}
