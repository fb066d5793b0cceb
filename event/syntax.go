package event

import (
	"errors"
	"fmt"
	"mime"
	"net/url"
	"strings"
	"unicode/utf8"
)

// The functions here say what is wrong with a text, or "" when nothing is. Every event that is
// published or consumed passes through them, so that all they may allocate for is a complaint, a URL
// and the parameters of a content type.

// textProblem checks the CloudEvents type String: Unicode without control characters and without
// the code points that Unicode calls noncharacters.
func textProblem(s string) string {
	i := printablePrefix(s)
	if i == len(s) {
		return ""
	}
	return unusualTextProblem(s, i)
}

// printablePrefix returns how many bytes at the beginning of s are surely printable ASCII, which
// most attributes are from end to end. It looks at eight bytes at a time, which halves what
// Validate costs.
func printablePrefix(s string) int {
	const (
		each = 0x0101010101010101
		high = 0x80 * each
	)
	i := 0
	for ; i+8 <= len(s); i += 8 {
		x := uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
			uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
		// The high bit of some byte comes out set if one is not ASCII, is less than a blank
		// (the subtraction borrows), or is DEL (the addition carries into it).
		if (x|(x-' '*each)|(x+each))&high != 0 {
			return i
		}
	}
	for ; i < len(s); i++ {
		if s[i]-' ' > '~'-' ' { // less than a blank wraps around
			return i
		}
	}
	return i
}

// unusualTextProblem checks s from byte i on, where it is not printable ASCII any more.
func unusualTextProblem(s string, i int) string {
	for i < len(s) {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			return fmt.Sprintf("is not UTF-8 at byte %d", i)
		case r < ' ', r >= 0x7f && r <= 0x9f:
			return fmt.Sprintf("has the control character U+%04X", r)
		case r >= 0xfdd0 && r <= 0xfdef, r&0xfffe == 0xfffe:
			return fmt.Sprintf("has the noncharacter U+%04X", r)
		}
		i += size
	}
	return ""
}

// nameProblem checks the name of an extension.
func nameProblem(name string) string {
	if reservedName(name) {
		return "is a CloudEvents name, which no extension can have"
	}
	if name == "" {
		return "an extension without a name"
	}
	if len(name) > maxShortString-len(headerPrefix) {
		return fmt.Sprintf("is a name of %d bytes; an AMQP header's holds %d, and CloudEvents recommends 20",
			len(name), maxShortString-len(headerPrefix))
	}
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return "is no extension's name: only lower-case letters a to z and digits are"
		}
	}
	return ""
}

// uriReferenceProblem checks the CloudEvents type URI-reference (RFC 3986, section 4.1).
func uriReferenceProblem(s string) string {
	if problem := uriBytesProblem(s); problem != "" {
		return problem
	}
	if scheme, ok := uriScheme(s); ok && !isScheme(scheme) {
		return fmt.Sprintf("%q is no URI scheme; write ./ before a path whose first part has a colon", scheme)
	}
	// Only an authority has more to it than its bytes: a port, an IPv6 address.
	if strings.Contains(s, "//") {
		if _, err := url.Parse(s); err != nil {
			if inner, ok := errors.AsType[*url.Error](err); ok {
				err = inner.Err
			}
			return "is no URI reference: " + err.Error()
		}
	}
	return ""
}

// absoluteURIProblem checks the CloudEvents type URI. Section 4.3 of RFC 3986 has no fragment in
// it; it is allowed here, as the SDKs do, because schemas are commonly named by one.
func absoluteURIProblem(s string) string {
	if problem := uriReferenceProblem(s); problem != "" {
		return problem
	}
	if _, ok := uriScheme(s); !ok {
		return "is no absolute URI: it has no scheme, such as https:"
	}
	return ""
}

// uriBytesProblem checks that s has only bytes that RFC 3986 lets a URI have.
func uriBytesProblem(s string) string {
	fragment := false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case isUnreserved(c):
		case c == '%':
			if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
				return "has a % that two hexadecimal digits do not follow"
			}
		case c == '#' && fragment:
			return "has more than one #"
		case c == '#':
			fragment = true
		case c == '[' || c == ']':
			if !strings.Contains(s[:i], "//") {
				return "has brackets outside of a host; percent-encode them"
			}
		case !isReserved(c):
			return fmt.Sprintf("has %q, which a URI must percent-encode", s[i:i+runeLen(s[i:])])
		}
	}
	return ""
}

// uriScheme returns what stands before the first colon, if that colon ends a scheme.
func uriScheme(s string) (scheme string, ok bool) {
	for i := range len(s) {
		switch s[i] {
		case ':':
			return s[:i], true
		case '/', '?', '#':
			return "", false
		}
	}
	return "", false
}

func isScheme(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && (i == 0 || c != '+' && c != '-' && c != '.') {
			return false
		}
	}
	return s != "" && (s[0] < '0' || s[0] > '9')
}

// mediaTypeProblem checks a content type: RFC 2046, with the grammar of RFC 2045 for parameters.
func mediaTypeProblem(s string) string {
	if s == ContentTypeJSON {
		return ""
	}
	if problem := textProblem(s); problem != "" {
		return problem
	}
	mediaType, _, parameters := strings.Cut(s, ";")
	major, minor, ok := strings.Cut(strings.TrimSpace(mediaType), "/")
	if !ok || !isToken(major) || !isToken(minor) {
		return "is no media type such as application/json"
	}
	if parameters {
		if _, _, err := mime.ParseMediaType(s); err != nil {
			return "is no media type: " + err.Error()
		}
	}
	return ""
}

// isJSONType reports whether contentType declares JSON as the CloudEvents JSON format defines it:
// any type with the subtype json or the suffix +json, and an absent one.
func isJSONType(contentType string) bool {
	if contentType == "" || contentType == ContentTypeJSON {
		return true
	}
	mediaType := baseMediaType(contentType)
	return hasSuffixFold(mediaType, "/json") || hasSuffixFold(mediaType, "+json")
}

// isTextType reports whether contentType declares text that a person could read in a JSON string.
func isTextType(contentType string) bool {
	mediaType := baseMediaType(contentType)
	return hasPrefixFold(mediaType, "text/") || hasSuffixFold(mediaType, "/xml") || hasSuffixFold(mediaType, "+xml")
}

// baseMediaType returns contentType without its parameters.
func baseMediaType(contentType string) string {
	mediaType, _, _ := strings.Cut(contentType, ";")
	return strings.TrimSpace(mediaType)
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

func hasSuffixFold(s, suffix string) bool {
	return len(s) >= len(suffix) && strings.EqualFold(s[len(s)-len(suffix):], suffix)
}

// isToken reports whether s is a token of RFC 2045.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !isAlphanumeric(c) && (c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=`, c) >= 0) {
			return false
		}
	}
	return s != ""
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z'
}

// isUnreserved reports whether c is an unreserved character of RFC 3986.
func isUnreserved(c byte) bool {
	return isAlphanumeric(c) || c == '-' || c == '.' || c == '_' || c == '~'
}

// isReserved reports whether c is one of RFC 3986's reserved characters that may stand anywhere:
// all but brackets and #.
func isReserved(c byte) bool {
	switch c {
	case ':', '/', '?', '@', '!', '$', '&', '\'', '(', ')', '*', '+', ',', ';', '=':
		return true
	default:
		return false
	}
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func runeLen(s string) int {
	_, size := utf8.DecodeRuneInString(s)
	return size
}
