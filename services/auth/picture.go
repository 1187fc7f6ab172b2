package auth

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
	"strings"
	"time"

	"golang.org/x/image/draw"
	"golang.org/x/image/webp"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

const (
	// pictureSide is the longest side of a picture as it is kept; nobody shows avatars larger.
	pictureSide = 512
	// picturePixelsMax is judged by before a picture is decoded. Each takes 4 bytes of memory, and of a progressive JPEG up to 24.
	picturePixelsMax = 4 << 20
	pictureBytesMax  = 1 << 20
	jpegQuality      = 90
	// pictureSlots are decoded at once, of up to 100 MiB and a core each.
	pictureSlots = 2
	pictureWait  = 2 * time.Second
	// pictureWaitersMax holds as many requests, of a megabyte and a half.
	pictureWaitersMax = 16
	// jpegScansMax: a progressive JPEG has about ten. Each costs a walk over all its pixels, and no more than a few bytes to whoever
	// made it.
	jpegScansMax = 64
)

const (
	typePNG  = "image/png"
	typeJPEG = "image/jpeg"
)

// picture is an avatar as it is kept. It is never what was sent but drawn anew from it, so that it is an image and nothing else
// besides, and has no notes of the camera in it, like the place where it was taken.
type picture struct {
	hash string
	kind string
	body []byte
}

// name is the avatar of a user who has this picture.
func (p *picture) name() *string {
	if p == nil {
		return nil
	}
	return &p.hash
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

// badImage is the answer to what is no image of ours.
func badImage(message string) error {
	return fault.Invalid(fault.Field{Path: "avatar", Code: codeImage, Message: message})
}

// avatarFrom reads an avatar as clients send it; nil is none.
func (s *Service) avatarFrom(ctx context.Context, in wire.Optional[string]) (*picture, error) {
	if in.Ptr() == nil || in.Value == "" {
		return nil, nil
	}
	release, err := s.pictures.take(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return newPicture(in.Value)
}

// newPicture reads data:<type>;base64,<data>.
func newPicture(uri string) (*picture, error) {
	kind, text, ok := strings.Cut(strings.TrimPrefix(uri, "data:"), ";base64,")
	f, known := formats[kind]
	if !ok || !known || !strings.HasPrefix(uri, "data:") {
		return nil, badImage("Must be data:image/png;base64,… or of another type: jpeg, gif, webp.")
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, badImage("The base64 of the image is broken.")
	}
	if len(raw) > pictureBytesMax {
		return nil, badImage(fmt.Sprintf("The image has more than %d bytes.", pictureBytesMax))
	}
	size, err := f.config(raw)
	if err != nil {
		return nil, badImage("This is no image of its type.")
	}
	if size.Width <= 0 || size.Height <= 0 || size.Width > picturePixelsMax/size.Height {
		return nil, badImage(fmt.Sprintf("The image has more than %d pixels.", picturePixelsMax))
	}
	decoded, err := f.decode(raw)
	if err != nil {
		return nil, badImage("This is no image of its type.")
	}
	return redraw(decoded, kind)
}

// redraw makes a picture of an image: not larger than it may be, JPEG if it came as one, which is small for photographs, else PNG.
func redraw(from image.Image, kind string) (*picture, error) {
	w, h := from.Bounds().Dx(), from.Bounds().Dy()
	if longest := max(w, h); longest > pictureSide {
		w, h = max(1, w*pictureSide/longest), max(1, h*pictureSide/longest)
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
		return nil, fmt.Errorf("encode an avatar: %w", err)
	}
	sum := sha256.Sum256(b.Bytes())
	return &picture{hash: hex.EncodeToString(sum[:16]), kind: kind, body: b.Bytes()}, nil
}

const (
	// An address with another picture is another address.
	avatarCache = "public, max-age=31536000, immutable"
	// Nothing in it runs, loads or is embedded as a page, whatever a browser takes it for.
	avatarPolicy = "default-src 'none'; sandbox"
)

// getAvatar serves /avatars/{user}/{hash}.png. Clients may ask for another ending, and get the type that there is.
func (s *Service) getAvatar(c *rest.Call, _ rest.None) (rest.File, error) {
	hash, ending, _ := strings.Cut(c.Param("file"), ".")
	switch ending {
	case "png", "jpg", "jpeg", "webp", "gif":
	default:
		return rest.File{}, fault.NotFound()
	}
	p, err := s.store.avatar(c.Context(), c.ID("user"), hash)
	if err != nil {
		return rest.File{}, err
	}
	return rest.File{Type: p.kind, Policy: avatarPolicy, Cache: avatarCache, Body: p.body}, nil
}
