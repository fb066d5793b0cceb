package schema

import (
	"bytes"
	"encoding/json"
	"math/big"
	"strconv"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// quicken makes a schema quicker to go by: what it accepts, it accepted before. What it does not accept
// may be accepted nonetheless, and has to be shown to the schema as it was.
//
// The library makes a fraction of big integers out of each number, to see whether it is an integer and
// within its bounds. That is a third of the time that an order takes, and needless for the integers that
// people send.
//
// It goes only where to accept less is to accept less of the whole, which is not so under "not" or
// "oneOf"; and so only into documents without references, which may lead from there to anywhere.
func quicken(s *jsonschema.Schema, document []byte) {
	if !bytes.Contains(document, []byte(`Ref"`)) && !bytes.Contains(document, []byte(`$ref"`)) {
		quickenParts(s)
	}
}

func quickenParts(s *jsonschema.Schema) {
	if s == nil {
		return
	}
	if least, ok := smallBound(s.Minimum); ok && isInteger(s.Types) {
		if most, ok := smallBound(s.Maximum); ok {
			s.Extensions = append(s.Extensions, smallInteger{least, most})
			s.Types, s.Minimum, s.Maximum = nil, nil, nil
		}
	}
	for _, property := range s.Properties {
		quickenParts(property)
	}
	quickenParts(s.Items2020)
	if items, ok := s.Items.(*jsonschema.Schema); ok {
		quickenParts(items)
	}
	for _, all := range s.AllOf {
		quickenParts(all)
	}
}

func isInteger(types *jsonschema.Types) bool {
	names := typeNames(types)
	return len(names) == 1 && names[0] == "integer"
}

// smallBound gives a bound that is an int64; nil where there is none.
func smallBound(bound *big.Rat) (*int64, bool) {
	if bound == nil {
		return nil, true
	}
	if !bound.IsInt() || !bound.Num().IsInt64() {
		return nil, false
	}
	n := bound.Num().Int64()
	return &n, true
}

// smallInteger accepts integers of an int64 within bounds.
type smallInteger struct{ least, most *int64 }

// Validate is called for each value that the schema is for.
func (b smallInteger) Validate(ctx *jsonschema.ValidatorContext, v any) {
	number, _ := v.(json.Number)
	n, err := strconv.ParseInt(string(number), 10, 64)
	if err != nil || b.least != nil && n < *b.least || b.most != nil && n > *b.most {
		ctx.AddError(&kind.FalseSchema{})
	}
}

// typeNames are the names of types; nil is every type.
func typeNames(types *jsonschema.Types) []string {
	if types == nil {
		return nil
	}
	return types.ToStrings()
}
