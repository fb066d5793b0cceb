package feed

import (
	"bytes"
	"encoding/json"
	"iter"
)

// document is one JSON value that is known to be valid, without anything around it. So what walks
// through it needs no checks, and costs no copies.
type document []byte

// newDocument gives nil for what is not JSON.
func newDocument(b []byte) document {
	if !json.Valid(b) {
		return nil
	}
	return document(bytes.Trim(b, " \t\r\n"))
}

func (d document) isObject() bool { return len(d) > 0 && d[0] == '{' }

func (d document) isNull() bool { return len(d) > 0 && d[0] == 'n' }

// members gives the names and values of an object, in their order.
func (d document) members() iter.Seq2[string, document] {
	return func(yield func(string, document) bool) {
		for i := d.space(1); d[i] != '}'; {
			end := d.end(i)
			name := d[i:end].text()
			i = d.space(d.space(end) + 1) // behind the colon
			end = d.end(i)
			if !yield(name, d[i:end]) {
				return
			}
			i = d.next(end)
		}
	}
}

// elements gives the values of an array.
func (d document) elements() iter.Seq[document] {
	return func(yield func(document) bool) {
		for i := d.space(1); d[i] != ']'; {
			end := d.end(i)
			if !yield(d[i:end]) {
				return
			}
			i = d.next(end)
		}
	}
}

// text gives the text of a string, with U+FFFD for half of an escaped surrogate pair.
func (d document) text() string {
	if bytes.IndexByte(d, '\\') < 0 {
		return string(d[1 : len(d)-1])
	}
	var text string
	if err := json.Unmarshal(d, &text); err != nil {
		return "" // it is a string
	}
	return text
}

// end is the index behind the value that begins at i.
func (d document) end(i int) int {
	depth := 0
	for {
		switch d[i] {
		case '"':
			i = d.quote(i)
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case ',', ':', ' ', '\t', '\r', '\n': // only within
		default:
			for i+1 < len(d) && bytes.IndexByte([]byte(",]} \t\r\n"), d[i+1]) < 0 {
				i++
			}
		}
		if i++; depth == 0 {
			return i
		}
	}
}

// quote is the index of the quote that ends the string which begins at i.
func (d document) quote(i int) int {
	for i++; d[i] != '"'; i++ {
		if d[i] == '\\' {
			i++
		}
	}
	return i
}

// space is the index of the first byte from i on that is no white space.
func (d document) space(i int) int {
	for d[i] == ' ' || d[i] == '\t' || d[i] == '\r' || d[i] == '\n' {
		i++
	}
	return i
}

// next is the index of the value that follows, behind the comma, or of the end of the object or array.
func (d document) next(i int) int {
	if i = d.space(i); d[i] == ',' {
		return d.space(i + 1)
	}
	return i
}
