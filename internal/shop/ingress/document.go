package ingress

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"unicode/utf8"
)

// maxDepth is how deep objects and arrays may be in each other. Readers of events have limits of their own, which nobody
// knows who records them.
const maxDepth = 100

// checkDocument tells why a body is not a JSON object that everybody can read. The error has nothing of the body in it.
func checkDocument(body []byte) error {
	switch trimmed := bytes.TrimLeft(body, " \t\r\n"); {
	case len(trimmed) == 0:
		return errors.New("the body is empty")
	case !utf8.Valid(body):
		return errors.New("the body is not UTF-8")
	case depth(body) > maxDepth:
		return fmt.Errorf("the body has objects or arrays more than %d deep in each other", maxDepth)
	case !json.Valid(body):
		return errors.New("the body is not JSON")
	case trimmed[0] != '{':
		return errors.New("the body is not a JSON object")
	default:
		return nil
	}
}

// depth is how deep objects and arrays are in each other, if the document is JSON.
func depth(doc []byte) int {
	var now, deepest int
	var text, escaped bool
	for _, c := range doc {
		switch {
		case escaped:
			escaped = false
		case text:
			escaped, text = c == '\\', c != '"'
		case c == '"':
			text = true
		case c == '{', c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}', c == ']':
			now--
		}
	}
	return deepest
}

// sameData tells whether two events' data say the same. Not looked at is how many endpoints Stripe has still to tell of an
// event, payload.pending_webhooks: it changes from one sending to the next.
func sameData(a, b []byte) bool {
	first, err := plainData(a)
	if err != nil {
		return false
	}
	second, err := plainData(b)
	return err == nil && reflect.DeepEqual(first, second)
}

// plainData decodes data, with numbers as they are written, without what changes from one sending to the next.
func plainData(data []byte) (map[string]any, error) {
	var members map[string]any
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(&members); err != nil {
		return nil, err
	}
	if payload, ok := members["payload"].(map[string]any); ok {
		delete(payload, "pending_webhooks")
	}
	return members, nil
}
