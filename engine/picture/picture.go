// Package picture reads the images that people send along, as avatars and icons: it lets few at a time be decoded, judges them before that, and
// draws them anew. It serves nothing, and stores the pictures of webhooks alone, which one service makes and another one serves.
package picture

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"net/http"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/image/draw"
	"golang.org/x/image/webp"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/limit"
	"github.com/xcord/xcord/engine/wire"
)

const (
	// side is the longest side of a picture as it is kept; nobody shows avatars larger.
	side = 512
	// pixelsMax is judged by before a picture is decoded. Each takes 4 bytes of memory, and of a progressive JPEG up to 24.
	pixelsMax   = 4 << 20
	bytesMax    = 1 << 20
	jpegQuality = 90
	// slots are decoded at once, of up to 100 MiB and a core each.
	slots = 2
	wait  = 2 * time.Second
	// waitersMax holds as many requests, of a megabyte and a half.
	waitersMax = 16
	// jpegScansMax: a progressive JPEG has about ten. Each costs a walk over all its pixels, and no more than a few bytes to whoever
	// made it.
	jpegScansMax = 64
)

const (
	typePNG  = "image/png"
	typeJPEG = "image/jpeg"
	// anyType is no type that there is. Clients write it who have not looked at what they send.
	anyType = "image/jpg"
)

// Picture is an image as it is kept. It is never what was sent but drawn anew from it, so that it is an image and nothing else
// besides, and has no notes of the camera in it, like the place where it was taken.
type Picture struct {
	Hash string // of Body; 32 hex digits
	Type string // image/png or image/jpeg
	Body []byte
}

// Name is what an object says that has this picture: its hash, or null.
func (p *Picture) Name() *string {
	if p == nil {
		return nil
	}
	return &p.Hash
}

// How a picture is served.
const (
	// An address with another picture is another address.
	Cache = "public, max-age=31536000, immutable"
	// Nothing in it runs, loads or is embedded as a page, whatever a browser takes it for.
	Policy = "default-src 'none'; sandbox"
)

// HashOf is the hash in the name of a file, or 404. Clients may ask for any ending of an image, and get the type that there is.
func HashOf(file string) (string, error) {
	hash, ending, _ := strings.Cut(file, ".")
	switch ending {
	case "png", "jpg", "jpeg", "webp", "gif":
		return hash, nil
	}
	return "", fault.NotFound()
}

// format is how a kind of image is read.
type format struct {
	config func([]byte) (image.Config, error)
	decode func([]byte) (image.Image, error)
}

// formats are what is taken. Of a GIF that moves, the first picture counts. SVG is a program and no picture.
var formats = map[string]format{
	typePNG: {
		func(b []byte) (image.Config, error) { return png.DecodeConfig(bytes.NewReader(b)) },
		func(b []byte) (image.Image, error) { return png.Decode(bytes.NewReader(b)) },
	},
	typeJPEG: {
		func(b []byte) (image.Config, error) {
			if bytes.Count(b, []byte{0xff, 0xda}) > jpegScansMax {
				return image.Config{}, errors.New("too many scans")
			}
			return jpeg.DecodeConfig(bytes.NewReader(b))
		},
		func(b []byte) (image.Image, error) { return jpeg.Decode(bytes.NewReader(b)) },
	},
	"image/gif": {
		func(b []byte) (image.Config, error) { return gif.DecodeConfig(bytes.NewReader(b)) },
		func(b []byte) (image.Image, error) { return gif.Decode(bytes.NewReader(b)) },
	},
	"image/webp": {
		func(b []byte) (image.Config, error) { return webp.DecodeConfig(bytes.NewReader(b)) },
		func(b []byte) (image.Image, error) { return webp.Decode(bytes.NewReader(b)) },
	},
}

// FieldImage is the code of a field that is no image of ours.
const FieldImage = "IMAGE_INVALID"

// Reader reads pictures, few at a time. Any goroutine may call it.
type Reader struct{ slots *limit.Slots }

// NewReader makes a Reader. Whom it sends away because too many wait is counted in refused.
func NewReader(refused *metrics.Counter) *Reader {
	return &Reader{limit.NewSlots(slots, wait, waitersMax, refused)}
}

// Read reads what a client has sent in a field; nil is none. It answers 50035 for what is no image, and 130000 when too many wait.
func (r *Reader) Read(ctx context.Context, field string, in wire.Optional[string]) (*Picture, error) {
	if in.Ptr() == nil || in.Value == "" {
		return nil, nil
	}
	release, err := r.slots.Take(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	p, err := parse(in.Value)
	if m, ok := errors.AsType[mistake](err); ok {
		return nil, fault.Invalid(fault.Field{Path: field, Code: FieldImage, Message: string(m)})
	}
	return p, err
}

// mistake is what is wrong with an image.
type mistake string

func (m mistake) Error() string { return string(m) }

// parse reads data:<type>;base64,<data>.
func parse(uri string) (*Picture, error) {
	kind, text, ok := strings.Cut(strings.TrimPrefix(uri, "data:"), ";base64,")
	_, known := formats[kind]
	if !ok || !known && kind != anyType || !strings.HasPrefix(uri, "data:") {
		return nil, mistake("Must be data:image/png;base64,… or of another type: jpeg, gif, webp.")
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, mistake("The base64 of the image is broken.")
	}
	if kind == anyType {
		kind = http.DetectContentType(raw)
	}
	f, known := formats[kind]
	if !known {
		return nil, mistake("This is no image of its type.")
	}
	if len(raw) > bytesMax {
		return nil, mistake(fmt.Sprintf("The image has more than %d bytes.", bytesMax))
	}
	size, err := f.config(raw)
	if err != nil {
		return nil, mistake("This is no image of its type.")
	}
	if size.Width <= 0 || size.Height <= 0 || size.Width > pixelsMax/size.Height {
		return nil, mistake(fmt.Sprintf("The image has more than %d pixels.", pixelsMax))
	}
	decoded, err := f.decode(raw)
	if err != nil {
		return nil, mistake("This is no image of its type.")
	}
	return redraw(decoded, kind)
}

// redraw makes a picture of an image: not larger than it may be, JPEG if it came as one, which is small for photographs, else PNG.
func redraw(from image.Image, kind string) (*Picture, error) {
	w, h := from.Bounds().Dx(), from.Bounds().Dy()
	if longest := max(w, h); longest > side {
		w, h = max(1, w*side/longest), max(1, h*side/longest)
	}
	to := image.NewNRGBA(image.Rect(0, 0, w, h))
	draw.BiLinear.Scale(to, to.Bounds(), from, from.Bounds(), draw.Src, nil)
	var b bytes.Buffer
	var err error
	if kind == typeJPEG {
		err = jpeg.Encode(&b, to, &jpeg.Options{Quality: jpegQuality})
	} else {
		kind, err = typePNG, png.Encode(&b, to)
	}
	if err != nil {
		return nil, fmt.Errorf("encode a picture: %w", err)
	}
	sum := sha256.Sum256(b.Bytes())
	return &Picture{Hash: hex.EncodeToString(sum[:16]), Type: kind, Body: b.Bytes()}, nil
}
