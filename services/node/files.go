package node

import (
	"fmt"
	"net"
	"path/filepath"

	"github.com/xcord/xcord/engine/files"
)

// spoolDir is where attachments are while they arrive: on the file system on which a local store keeps them.
func (n *Node) spoolDir() (string, error) {
	dir, err := n.settings.filesDir()
	return filepath.Join(dir, "spool"), err
}

// openFiles opens the store of attachments.
func (n *Node) openFiles() (files.Store, error) {
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
