#pragma once
// The layout notation as a typed tree (docs/adr/0002-layout-notation.md).
//
//   rule    := name tensors "->" tensors clause*
//   tensors := tensor ("," tensor)*
//   tensor  := name grid? "[" dim* "]"
//   grid    := "{" ("*"? axis)+ "}"              axes on the process grid; "*" marks a replica
//   dim     := axis | "1" | "..." | "(" product-or-sum ")"
//   sum     := choice ("|" choice)+ ;  choice := name ":" product
//   product := ("*"? axis | "1" | "(" product-or-sum ")")+      a sum in brackets ends a product of
//   its own clause  := "cut" "0" "by" axis              an even cut of the target's rows, which may
//   fall inside a part
//
// Juxtaposition is a product, outermost first. The part named `pad` has no source: it is
// zero-filled.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace bv::layout {

struct Position {
  int line = 1;
  int column = 1;
  bool operator==(const Position&) const { return true; }  // trees are compared by meaning
};

struct Factor;
using Product = std::vector<Factor>;

struct Choice {
  std::string name;
  Product product;
  Position at;
  bool operator==(const Choice&) const = default;
};

/// One factor of a dimension: an axis, the number 1, or a sum of named choices.
struct Factor {
  enum class Kind { Axis, One, Sum };
  Kind kind = Kind::One;
  std::string axis;
  bool replica =
      false;  // "*d": stands on the target only; every position holds the same source element
  std::vector<Choice> choices;
  Position at;
  bool operator==(const Factor&) const = default;
};

/// One dimension: a product of factors, or "..." (any number of trailing dimensions carried along
/// unchanged).
struct Dim {
  Product product;
  bool rest = false;
  Position at;
  bool operator==(const Dim&) const = default;
};

struct GridAxis {
  std::string axis;
  bool replica = false;  // "{*t}": the same bytes on every coordinate
  bool operator==(const GridAxis&) const = default;
};

struct TensorExpr {
  std::string name;
  std::vector<GridAxis> grid;
  std::vector<Dim> dims;
  Position at;
  bool operator==(const TensorExpr&) const = default;
};

struct Cut {
  std::string axis;
  bool operator==(const Cut&) const = default;
};

/// One line of notation.
struct Rule {
  std::string name;
  std::vector<TensorExpr> sources;  // the HF side
  std::vector<TensorExpr> targets;  // the Megatron side
  std::optional<Cut> cut;
  std::string doc;
  bool operator==(const Rule& other) const {
    return name == other.name && sources == other.sources && targets == other.targets &&
           cut == other.cut;
  }
};

}  // namespace bv::layout
