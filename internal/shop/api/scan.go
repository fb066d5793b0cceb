package api

import (
	"bytes"
	"encoding/json"
	"iter"
	"strconv"
	"strings"
)

// What is read here must be valid JSON, as json.Valid says: then its values can be told from each other without being
// decoded. encoding/json alone would not do: it takes the last of two members of the same name, ignores the case of names,
// and stops at the first value of a wrong type.

// skipSpace gives the index of what follows white space.
func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// endOf gives the index behind the value that begins at i.
func endOf(b []byte, i int) int {
	switch b[i] {
	case '"':
		return endOfString(b, i)
	case '{', '[':
		depth := 0
		for ; ; i++ {
			switch b[i] {
			case '"':
				i = endOfString(b, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	default:
		for i < len(b) && !bytes.ContainsRune([]byte(",]} \n\t\r"), rune(b[i])) {
			i++
		}
		return i
	}
}

func endOfString(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// members gives the members of an object, as they are written.
func members(object []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for i := skipSpace(object, 1); object[i] != '}'; {
			end := endOf(object, i)
			name := text(object[i:end])
			i = skipSpace(object, skipSpace(object, end)+1)
			end = endOf(object, i)
			if !yield(name, object[i:end]) {
				return
			}
			if i = skipSpace(object, end); object[i] == ',' {
				i = skipSpace(object, i+1)
			}
		}
	}
}

// elements gives the elements of an array.
func elements(array []byte) iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		n := 0
		for i := skipSpace(array, 1); array[i] != ']'; n++ {
			end := endOf(array, i)
			if !yield(n, array[i:end]) {
				return
			}
			if i = skipSpace(array, end); array[i] == ',' {
				i = skipSpace(array, i+1)
			}
		}
	}
}

// text decodes a string.
func text(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	var s string
	_ = json.Unmarshal(raw, &s) // it is valid
	return s
}

// kind says what a value is, for people.
func kind(raw []byte) string {
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	default:
		return "a number"
	}
}

// integer reads a number that is whole, however it is written: 2, 2.0 and 2e0 are the same to JSON. ok is false where it is
// not whole, or beyond what anybody orders.
func integer(raw []byte) (n int, ok bool) {
	if n, err := strconv.Atoi(string(raw)); err == nil {
		return n, true
	}
	if !bytes.ContainsAny(raw, ".eE") {
		return 0, false
	}
	const exact = 1 << 53
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || f != float64(int64(max(-exact, min(exact, f)))) {
		return 0, false
	}
	return int(f), true
}

// pointer is the JSON Pointer (RFC 6901) of a member.
func pointer(name string) string {
	return "/" + strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}
