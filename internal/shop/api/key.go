package api

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/evdemo/evdemo/internal/shop"
)

const (
	keyHeader = "Idempotency-Key"
	maxKey    = 255 // bytes

	// extRequestHash is the extension of order.created that has the fingerprint of the request, where that had a key.
	extRequestHash = "requesthash"
)

// keyOf reads the header Idempotency-Key, which is a string as structured headers have it (RFC 8941), in double quotes
// (draft-ietf-httpapi-idempotency-key-header). Many clients leave the quotes away, so a key without them is the same key.
func keyOf(header http.Header) (key string, err error) {
	values := header.Values(keyHeader)
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", errors.New("there are several")
	}
	key = strings.Trim(values[0], " \t")
	if strings.HasPrefix(key, `"`) {
		if key, err = unquote(key); err != nil {
			return "", err
		}
	} else if strings.ContainsAny(key, ` ",;\`) {
		return "", errors.New(`what has spaces, commas, semicolons, backslashes or quotes in it goes in double quotes: "like this"`)
	}
	if key == "" || len(key) > maxKey {
		return "", errors.New("want 1 to " + strconv.Itoa(maxKey) + " characters")
	}
	for i := range len(key) {
		if key[i] < ' ' || key[i] > '~' {
			return "", errors.New("only the printable characters of ASCII are taken")
		}
	}
	return key, nil
}

// unquote reads a string of RFC 8941, section 3.3.3, and nothing behind it: no parameters are defined.
func unquote(quoted string) (string, error) {
	var b strings.Builder
	for i := 1; i < len(quoted); i++ {
		switch c := quoted[i]; c {
		case '\\':
			if i++; i == len(quoted) || quoted[i] != '"' && quoted[i] != '\\' {
				return "", errors.New(`a backslash goes before a quote or a backslash only`)
			}
			b.WriteByte(quoted[i])
		case '"':
			if i != len(quoted)-1 {
				return "", errors.New("there is something behind the closing quote")
			}
			return b.String(), nil
		default:
			b.WriteByte(c)
		}
	}
	return "", errors.New("the closing quote is missing")
}

const idPrefix = "order-"

// newOrderID is the id of an order. That of a key is always the same, so that the same key finds the same stream.
func newOrderID(key string) string {
	if key == "" {
		return idPrefix + uuid.Must(uuid.NewV7()).String()
	}
	// The name is that of nothing else: RFC 9562 wants names within a space to be distinct.
	return idPrefix + uuid.NewSHA1(uuid.NameSpaceURL, []byte("urn:evdemo:"+shop.Orders+":idempotency-key:"+key)).String()
}

// isOrderID tells whether there may be an order of that name. Each has one spelling.
func isOrderID(id string) bool {
	const size = len(idPrefix) + 36
	if len(id) != size || !strings.HasPrefix(id, idPrefix) {
		return false
	}
	for i, c := range []byte(id[len(idPrefix):]) {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}

// hash is the fingerprint of a request: of what it asks for, not of how that was written.
func (q *request) hash() string {
	b := strconv.AppendQuote(nil, q.userID)
	for _, l := range q.lines {
		b = strconv.AppendQuote(b, l.sku)
		b = strconv.AppendInt(b, int64(l.quantity), 10)
		if l.priced {
			b = append(b, '@')
			b = strconv.AppendInt(b, int64(l.price), 10)
		}
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}
