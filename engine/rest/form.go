package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"github.com/xcord/xcord/engine/fault"
)

const (
	formType    = "multipart/form-data"
	encodedType = "application/x-www-form-urlencoded"

	// partHeadMax bounds what stands between two parts: a name and a type have some 200 bytes, and a file's name in it 1 KiB at most.
	partHeadMax = 16 << 10
	// fieldsOfFormMax are parts that are no files; the API has ten such fields.
	fieldsOfFormMax = 32
	// nameBytesMax keeps a name, with what a store adds to it, within the 255 bytes that file systems have.
	nameBytesMax = 200
)

// Upload is one file of a form. It lies on disk as a file of its own until the handler returns, at a path that nobody else uses; a
// handler may take it away from there by a rename.
type Upload struct {
	Index int    // n of files[n]
	Name  string // what FileName makes of the client's
	Size  int64  // in bytes
	Path  string
}

// Form lets a route take multipart/form-data with up to n files beside JSON, which is then the field payload_json, and
// application/x-www-form-urlencoded. Handlers find the files in Call.Files.
func Form(n int) Option { return func(s *spec) { s.filesMax = n } }

// form is a body that has been read. Its owner removes the files.
type form struct {
	json  []byte // nil: there was no payload_json
	field []field
	files []Upload
}

// field is a part that is no file.
type field struct {
	name  string
	value []byte
}

// remove takes the files off the disk, but for those that have been taken away.
func (f *form) remove() {
	for _, u := range f.files {
		_ = os.Remove(u.Path) // one that is not there is what is wanted
	}
}

// formLimits bound a form.
type formLimits struct {
	total, file int64 // bytes
	json        int   // bytes of all fields together
	files       int
}

var (
	errFormTorn  = errors.New("the form is torn")
	errMeter     = errors.New("more than there may be")
	errSpool     = errors.New("spool a file")
	errFormLarge = errors.New("the form is too large")
)

// meter lets no more through than it was allowed, and no more than total altogether, so that whoever reads from it needs no limits of
// his own.
type meter struct {
	from        io.Reader
	left, total int64
}

func (m *meter) Read(p []byte) (int, error) {
	switch {
	case m.total <= 0:
		// One byte more tells a form that is just as large as it may be from one that is larger.
		if n, err := m.from.Read(p[:1]); n == 0 {
			return 0, err
		}
		return 0, errFormLarge
	case m.left <= 0:
		return 0, errMeter
	}
	n, err := m.from.Read(p[:min(int64(len(p)), m.left, m.total)])
	m.left -= int64(n)
	m.total -= int64(n)
	return n, err
}

// readForm reads a form: fields into memory, files to files in dir. What it has made is in f also when there is an error.
func readForm(body io.Reader, boundary string, limits formLimits, dir string) (f *form, err error) {
	f = new(form)
	m := &meter{from: body, total: limits.total}
	parts := multipart.NewReader(m, boundary)
	for room := limits.json; ; {
		m.left = partHeadMax
		part, err := parts.NextRawPart()
		if err == io.EOF { //nolint:errorlint // behind the last boundary; a torn form ends with an EOF that is wrapped
			return f, nil
		}
		if err != nil {
			return f, formFault(err)
		}
		name, ok := part.FormName(), hasFileName(part)
		if !ok {
			if len(f.field) == fieldsOfFormMax {
				return f, fault.New(fault.InvalidForm)
			}
			m.left = int64(room) + partHeadMax
			value, err := io.ReadAll(io.LimitReader(part, int64(room)+1))
			if err != nil {
				return f, formFault(err)
			}
			if room -= len(value); room < 0 {
				return f, fault.TooLarge()
			}
			if err := f.add(name, value); err != nil {
				return f, err
			}
			continue
		}
		m.left = limits.file + partHeadMax
		if err := f.spool(part, name, limits, dir); err != nil {
			return f, formFault(err)
		}
	}
}

func hasFileName(part *multipart.Part) bool {
	_, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	_, ok := params["filename"]
	return err == nil && ok
}

// add takes a field, which must be text.
func (f *form) add(name string, value []byte) error {
	switch {
	case !utf8.ValidString(name) || !utf8.Valid(value):
		return fault.New(fault.InvalidForm)
	case name == "payload_json":
		f.json = value
	default:
		f.field = append(f.field, field{name, value})
	}
	return nil
}

// spool writes a part to a file of its own.
func (f *form) spool(part *multipart.Part, name string, limits formLimits, dir string) error {
	u := Upload{Index: f.indexOf(name), Name: FileName(part.FileName())}
	if u.Index < 0 || u.Index >= limits.files {
		return badFiles(fault.FieldMaxLength, fmt.Sprintf("Must be %d or fewer in length.", limits.files))
	}
	if slices.ContainsFunc(f.files, func(other Upload) bool { return other.Index == u.Index }) {
		return badFiles(fault.FieldChoices, fmt.Sprintf("There are two files[%d].", u.Index))
	}
	file, err := os.CreateTemp(dir, "upload-*") // 0600
	if err != nil {
		return fmt.Errorf("%w: %w", errSpool, err)
	}
	u.Path = file.Name()
	f.files = append(f.files, u)
	size, err := io.Copy(spooler{file}, part)
	f.files[len(f.files)-1].Size = size
	if errClose := file.Close(); err == nil && errClose != nil {
		err = fmt.Errorf("%w: %w", errSpool, errClose)
	}
	if errors.Is(err, errMeter) || err == nil && size > limits.file {
		return fault.New(fault.FileTooLarge)
	}
	return err
}

// spooler tells a disk that does not take a file from a client that does not send it.
type spooler struct{ file *os.File }

func (s spooler) Write(p []byte) (int, error) {
	n, err := s.file.Write(p)
	if err != nil {
		err = fmt.Errorf("%w: %w", errSpool, err)
	}
	return n, err
}

// indexOf is n of files[n]; a file by another name has the next number that is free.
func (f *form) indexOf(name string) int {
	if n, ok := strings.CutPrefix(name, "files["); ok {
		i, err := strconv.ParseUint(strings.TrimSuffix(n, "]"), 10, 16)
		if err != nil || !strings.HasSuffix(n, "]") {
			return -1
		}
		return int(i)
	}
	i := 0
	for slices.ContainsFunc(f.files, func(u Upload) bool { return u.Index == i }) {
		i++
	}
	return i
}

func badFiles(code, message string) error {
	return fault.Invalid(fault.Field{Path: "files", Code: code, Message: message})
}

// formFault is what a client hears about a form that could not be read.
func formFault(err error) error {
	var known *fault.Fault
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, errSpool):
		return fault.Unavailable(err, 0)
	case errors.Is(err, errFormLarge):
		return fault.TooLarge()
	case isTimeout(err):
		f := fault.Wrap(fault.General, err)
		f.Status, f.Message = fasthttp.StatusRequestTimeout, "408: Request Timeout"
		return f
	}
	return fault.Wrap(fault.InvalidForm, fmt.Errorf("%w: %w", errFormTorn, err))
}

// object is the JSON of a form: payload_json, or else the fields by themselves, each a text where In wants one.
func (f *form) object(in reflect.Type) []byte {
	if f.json != nil || len(f.field) == 0 {
		return f.json
	}
	var out bytes.Buffer
	out.WriteByte('{')
	for i, each := range f.field {
		if i > 0 {
			out.WriteByte(',')
		}
		out.Write(quote(each.name))
		out.WriteByte(':')
		if isTextField(in, each.name) || !json.Valid(each.value) {
			out.Write(quote(string(each.value)))
		} else {
			out.Write(each.value)
		}
	}
	out.WriteByte('}')
	return out.Bytes()
}

func quote(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(fmt.Sprintf("BUG: a text does not encode: %v", err))
	}
	return b
}

// isTextField says whether In has a text by that name.
func isTextField(in reflect.Type, name string) bool {
	if in.Kind() != reflect.Struct {
		return false
	}
	for _, f := range reflect.VisibleFields(in) {
		if jsonName(f) == name {
			return plainType(f.Type).Kind() == reflect.String
		}
	}
	return false
}

// encodedForm reads application/x-www-form-urlencoded, whose body is in memory and small already.
func encodedForm(body []byte) (*form, error) {
	values, err := url.ParseQuery(string(body))
	if err != nil || len(values) > fieldsOfFormMax {
		return nil, fault.New(fault.InvalidForm)
	}
	f := new(form)
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if err := f.add(name, []byte(values.Get(name))); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// FileName makes a name that is the same in a path, a header and a file system, and looks like what it is: the last part of a path,
// with letters, digits, marks, dots and hyphens as they are and everything else an underscore; never empty, hidden or long.
func FileName(s string) string {
	s = strings.ToValidUTF8(s, "_")
	s = s[strings.LastIndexAny(s, `/\`)+1:]
	s = strings.Map(func(r rune) rune {
		if r == '.' || r == '-' || unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) {
			return r
		}
		return '_'
	}, s)
	s = strings.TrimLeft(s, ".")
	for len(s) > nameBytesMax {
		// The ending says what it is, so the middle goes.
		dot := strings.LastIndexByte(s, '.')
		ending := ""
		if dot > 0 && len(s)-dot <= 16 {
			ending = s[dot:]
		}
		s = strings.ToValidUTF8(s[:nameBytesMax-len(ending)], "") + ending
	}
	if s == "" {
		return "file"
	}
	return s
}
