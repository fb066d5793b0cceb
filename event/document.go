package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"unicode/utf8"
)

// document is one JSON value that is known to be valid UTF-8 and valid JSON, without anything
// around it. encoding/json has seen to that, so what walks through it needs no checks of its own.
type document []byte

// newDocument checks b and returns the value in it, or a *SyntaxError. A byte order mark before the
// value, as Windows programs write it, is passed over, which RFC 8259 allows a reader.
func newDocument(b []byte) (document, error) {
	doc := bytes.TrimPrefix(b, []byte("\ufeff"))
	for len(doc) > 0 && isSpace(doc[0]) {
		doc = doc[1:]
	}
	start := int64(len(b) - len(doc))
	for len(doc) > 0 && isSpace(doc[len(doc)-1]) {
		doc = doc[:len(doc)-1]
	}
	if len(doc) == 0 {
		return nil, &SyntaxError{Offset: start, Reason: "it is empty"}
	}
	if !utf8.Valid(doc) {
		return nil, &SyntaxError{Offset: start + int64(validPrefix(doc)), Reason: "it is not UTF-8"}
	}
	if json.Valid(doc) {
		return document(doc), nil
	}
	var raw json.RawMessage
	err := json.Unmarshal(doc, &raw)
	fault := &SyntaxError{Offset: start, Reason: err.Error()}
	if inner, ok := errors.AsType[*json.SyntaxError](err); ok {
		fault.Offset += max(inner.Offset-1, 0)
	}
	return nil, fault
}

// isObject reports whether the value is an object, which has members.
func (d document) isObject() bool { return d[0] == '{' }

// notObject returns the error for a value that should have been an object.
func (d document) notObject() error {
	return &SyntaxError{Reason: fmt.Sprintf("an event is an object, and this is %s", jsonKind(d))}
}

// members returns the names and values of an object, in order and as they are written: a name with
// its quotes, a value from its first byte to its last.
func (d document) members() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for i := skipSpace(d, 1); d[i] != '}'; {
			end := skipValue(d, i)
			name := d[i:end:end]
			i = skipSpace(d, skipSpace(d, end)+1) // past the colon
			end = skipValue(d, i)
			if !yield(name, d[i:end:end]) {
				return
			}
			if i = skipSpace(d, end); d[i] == ',' {
				i = skipSpace(d, i+1)
			}
		}
	}
}

// skipValue returns the index after the value that begins at doc[i].
func skipValue(doc []byte, i int) int {
	depth := 0
	for ; i < len(doc); i++ {
		switch doc[i] {
		case '"':
			i = closingQuote(doc, i)
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		case ',', ':', ' ', '\t', '\r', '\n':
			continue
		default:
			i = lastOfLiteral(doc, i)
		}
		if depth == 0 {
			return i + 1
		}
	}
	return i
}

// closingQuote returns the index of the quote that ends the string that begins at doc[i].
func closingQuote(doc []byte, i int) int {
	for i++; ; i++ {
		i += bytes.IndexByte(doc[i:], '"')
		escapes := 0
		for doc[i-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return i
		}
	}
}

// lastOfLiteral returns the index of the last byte of the number, true, false or null at doc[i].
func lastOfLiteral(doc []byte, i int) int {
	for i+1 < len(doc) {
		switch doc[i+1] {
		case ',', '}', ']', ' ', '\t', '\r', '\n':
			return i
		}
		i++
	}
	return i
}

func skipSpace(doc []byte, i int) int {
	for isSpace(doc[i]) {
		i++
	}
	return i
}

// isSpace reports whether c is what JSON calls white space, which is less than Go's packages do.
func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// unquote returns the text of a JSON string; ok is false for any other value. An escaped surrogate
// without its other half, which no text can hold, becomes U+FFFD, as encoding/json has it.
func unquote(raw []byte) (text string, ok bool) {
	if raw[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') >= 0 {
		return unescape(raw), true
	}
	return string(raw[1 : len(raw)-1]), true
}

// unescape returns the text of a JSON string that has escapes in it. It stands apart from unquote
// so that the others do without what it allocates.
func unescape(raw []byte) string {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return "" // newDocument has seen to it that this is a string
	}
	return text
}

// jsonKind names the kind of a JSON value in a sentence.
func jsonKind(raw []byte) string {
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	default:
		return "a number"
	}
}

// validPrefix returns how many bytes of b are valid UTF-8.
func validPrefix(b []byte) int {
	for i := 0; i < len(b); {
		r, size := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(b)
}
