#include "core/layout/notation.hpp"

namespace bv::layout {
namespace {

std::string print(const Product& product);

std::string print(const Factor& factor) {
  switch (factor.kind) {
    case Factor::Kind::Axis:
      return (factor.replica ? "*" : "") + factor.axis;
    case Factor::Kind::One:
      return "1";
    case Factor::Kind::Sum: {
      std::string text = "(";
      for (const Choice& choice : factor.choices) {
        text += (text.size() > 1 ? " | " : "") + choice.name + ": " + print(choice.product);
      }
      return text + ")";
    }
  }
  return "";
}

std::string print(const Product& product) {
  std::string text;
  for (const Factor& factor : product) {
    text += (text.empty() ? "" : " ") + print(factor);
  }
  return text;
}

std::string print(const Dim& dim) {
  if (dim.rest) {
    return "...";
  }
  const bool bare = dim.product.size() == 1;
  return bare ? print(dim.product.front()) : "(" + print(dim.product) + ")";
}

std::string print(const TensorExpr& tensor) {
  std::string text = tensor.name;
  if (!tensor.grid.empty()) {
    text += "{";
    for (std::size_t i = 0; i < tensor.grid.size(); ++i) {
      text +=
          (i > 0 ? " " : "") + std::string(tensor.grid[i].replica ? "*" : "") + tensor.grid[i].axis;
    }
    text += "}";
  }
  text += "[";
  for (std::size_t i = 0; i < tensor.dims.size(); ++i) {
    text += (i > 0 ? " " : "") + print(tensor.dims[i]);
  }
  return text + "]";
}

std::string print(const std::vector<TensorExpr>& tensors) {
  std::string text;
  for (const TensorExpr& tensor : tensors) {
    text += (text.empty() ? "" : ", ") + print(tensor);
  }
  return text;
}

}  // namespace

std::string print(const Rule& rule) {
  std::string text = rule.name + " " + print(rule.sources) + " -> " + print(rule.targets);
  if (rule.cut) {
    text += " cut 0 by " + rule.cut->axis;
  }
  return text;
}

}  // namespace bv::layout
