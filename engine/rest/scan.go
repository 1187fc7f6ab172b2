package rest

import (
	"bytes"
	"encoding/json"
	"errors"
)

// depthMax is how deep a body may nest. What we read nests five deep; the decoder itself gives up only at 10,000, after
// it has spent the memory.
const depthMax = 100

// keysLinearMax is up to how many keys an object is searched for a duplicate one by one. What we read has less than 40.
const keysLinearMax = 48

var (
	errDepth     = errors.New("nested too deep")
	errDuplicate = errors.New("key stands twice in one object")
)

// scan looks at a body once, before it is decoded, for what the decoder would let pass: nesting, keys that stand twice
// (which of the two is meant depends on who reads it), and U+0000 in strings, in whatever way it is escaped. That it is
// JSON at all is for the decoder to say; on anything else scan only must not fail badly.
func scan(b []byte) (nul bool, err error) {
	var (
		framesRoom [16]frame
		keysRoom   [64][]byte
	)
	frames, keys := framesRoom[:0], keysRoom[:0] // keys of all open objects, innermost last
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '{', '[':
			if len(frames) == depthMax {
				return nul, errDepth
			}
			frames = append(frames, frame{object: b[i] == '{', key: b[i] == '{', first: len(keys)})
		case '}', ']':
			if n := len(frames) - 1; n >= 0 {
				keys = keys[:frames[n].first]
				frames = frames[:n]
			}
		case ',':
			if n := len(frames) - 1; n >= 0 {
				frames[n].key = frames[n].object
			}
		case '"':
			end, escaped, hasNUL := stringEnd(b, i)
			nul = nul || hasNUL
			if n := len(frames) - 1; n >= 0 && frames[n].key {
				f := &frames[n]
				f.key = false
				k := keyText(b[i:end], escaped)
				if f.has(keys[f.first:], k) {
					return nul, errDuplicate
				}
				keys = append(keys, k)
			}
			i = end - 1
		}
	}
	return nul, nil
}

// frame is one open object or array.
type frame struct {
	object, key bool // key: the next string is a key
	first       int  // where its keys begin
	seen        map[string]struct{}
}

// has tells whether k is among the keys of this object.
func (f *frame) has(keys [][]byte, k []byte) bool {
	if len(keys) < keysLinearMax {
		for _, have := range keys {
			if bytes.Equal(have, k) {
				return true
			}
		}
		return false
	}
	if f.seen == nil {
		f.seen = make(map[string]struct{}, 2*len(keys))
		for _, have := range keys {
			f.seen[string(have)] = struct{}{}
		}
	}
	if _, ok := f.seen[string(k)]; ok {
		return true
	}
	f.seen[string(k)] = struct{}{}
	return false
}

// stringEnd returns the index behind the string that begins at b[i].
func stringEnd(b []byte, i int) (end int, escaped, nul bool) {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '"':
			return i + 1, escaped, nul
		case '\\':
			escaped = true
			nul = nul || bytes.HasPrefix(b[i:], []byte(`\u0000`))
			i++ // whatever it is, it does not end the string
		}
	}
	return len(b), escaped, nul
}

// keyText is a key without quotes and escapes, so that two spellings of it are one.
func keyText(quoted []byte, escaped bool) []byte {
	if escaped {
		var s string
		if json.Unmarshal(quoted, &s) == nil {
			return []byte(s)
		}
	}
	return quoted[1:max(1, len(quoted)-1)]
}
