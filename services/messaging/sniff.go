package messaging

import (
	"bufio"
	"errors"
	"image"
	_ "image/gif"
	_ "image/jpeg"
	_ "image/png"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"

	_ "golang.org/x/image/webp"
)

const (
	// imagePixelsMax is how large a picture may be that others are shown unasked: 64 million pixels take a browser 256 MiB.
	imagePixelsMax = 64 << 20
	// imageHeadMax is how far into a file its dimensions are looked for. Behind a colour profile and a preview they stand within it.
	imageHeadMax = 1 << 20

	octets = "application/octet-stream"
)

// safeTypes are what a file may be served as besides pictures, sounds and films. Of what a browser could run, nothing is.
var safeTypes = []string{"application/pdf", "application/zip", "application/x-gzip", "text/plain; charset=utf-8"}

// kind is what a file is by its own content; nobody's word is taken for it.
type kind struct {
	contentType   string
	width, height int // of a picture that may be shown; else 0
}

// shown says whether a browser may show it where it is linked from.
func shown(contentType string) bool { return strings.HasPrefix(contentType, "image/") }

// sniff finds out what a file is. Of a picture no more than the head is read, and nothing is ever unpacked.
func sniff(path string) (kind, error) {
	f, err := os.Open(path)
	if err != nil {
		return kind{}, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	head := bufio.NewReaderSize(io.LimitReader(f, imageHeadMax), 4096)
	start, err := head.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return kind{}, err
	}
	switch t := http.DetectContentType(start); {
	case strings.HasPrefix(t, "image/"):
		return picture(t, head), nil
	case slices.Contains(safeTypes, t), strings.HasPrefix(t, "audio/"), strings.HasPrefix(t, "video/"):
		return kind{contentType: t}, nil
	}
	return kind{contentType: octets}, nil
}

// picture is a kind only if the whole head is right, and the picture not too large to be shown.
func picture(contentType string, head io.Reader) kind {
	config, format, err := image.DecodeConfig(head)
	if err != nil || "image/"+format != contentType || config.Width <= 0 || config.Height <= 0 || config.Width > imagePixelsMax/config.Height {
		return kind{contentType: octets}
	}
	return kind{contentType, config.Width, config.Height}
}
