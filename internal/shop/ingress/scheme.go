package ingress

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// scheme is a way to sign a request. Its methods may be called from several goroutines.
type scheme interface {
	// claim reads what the headers claim. Nothing of it is to be believed before verify says so.
	claim(header http.Header) (claim, error)
	// verify tells whether one of the secrets has signed the body with this claim. How long it takes tells nothing of how
	// much of a signature is right.
	verify(c claim, body []byte) bool
	// String names the scheme, as WWW-Authenticate has it.
	String() string
}

// claim is what a request's headers claim.
type claim struct {
	id         string    // of the message, where it is in a header
	at         time.Time // of signing
	signatures []string  // as the header has them
}

// maxSignatures is how many signatures of one request are compared. Providers send one for each secret in use.
const maxSignatures = 16

// errNoSignature is wrapped where a request does not claim to be signed.
var errNoSignature = errors.New("the request is not signed")

// single gives a header that must be there once: two values are for two readers to disagree on.
func single(header http.Header, name string) (string, error) {
	switch values := header.Values(name); {
	case len(values) == 0, len(values) == 1 && values[0] == "":
		return "", fmt.Errorf("%w: it has no header %s", errNoSignature, name)
	case len(values) > 1:
		return "", fmt.Errorf("the header %s is there %d times, and must be once", name, len(values))
	default:
		return values[0], nil
	}
}

// parseTimestamp reads Unix seconds as providers write them: digits, and nothing that could be written otherwise.
func parseTimestamp(text string) (time.Time, error) {
	const longest = 11 // until the year 5138
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || len(text) > longest || text[0] < '1' || text[0] > '9' {
		return time.Time{}, errors.New("the time of signing is not in Unix seconds")
	}
	return time.Unix(seconds, 0), nil
}

// maxName is the longest id or type of a message. An event's id goes into AMQP's message_id, which holds 255 bytes.
const maxName = 200

// isName tells whether an id or a type is one that can be written anywhere: ASCII without spaces and control characters.
func isName(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != "" && len(s) <= maxName
}
