#include <gtest/gtest.h>

#include "core/compare/diff.hpp"
#include "core/kinds/values.hpp"
#include "tests/core/compare/tensors_in_memory.hpp"
#include "tests/support/files.hpp"

namespace bv::compare {
namespace {

using support::TempFolder;

/// Four values of a vector as F32, BF16 or F16 (all below are exact in each).
Tensor vector_of(DType dtype, double first) {
  Tensor out{{"x", dtype, {4}}, std::vector<std::byte>(static_cast<std::size_t>(4 * bytes(dtype)))};
  for (int i = 0; i < 4; ++i) {
    kinds::store(first + i, out.bytes.data() + i * bytes(dtype), dtype);
  }
  return out;
}

/// Names that differ when `b` was written with `own`, or with no type of its own.
std::vector<std::string> differing(const Tensors& a, const Tensors& b, bool own) {
  const TempFolder folder;
  write(folder.path() / "a.safetensors", a);
  write(folder.path() / "b.safetensors", b);
  const auto one = io::Checkpoint::open(folder.path() / "a.safetensors").value();
  const auto two = io::Checkpoint::open(folder.path() / "b.safetensors").value();
  const Comparison comparison = compare_hf(one, two);
  DiffOptions options;
  options.own_dtype = own ? own_dtype(comparison) : std::nullopt;
  std::vector<std::string> out;
  const DiffReport report = diff(comparison, options).value();
  for (const auto& difference : report.differences) {
    out.push_back(comparison.subjects[difference.subject].tensor);
  }
  return out;
}

/// A whole checkpoint cast by its writer is right where nothing is lost; one tensor cast alone is
/// not, and neither is one that lost values with the others.
TEST(OwnDtype, ATypeOfTheWholeCheckpointIsNoFaultWhereNoValueIsLost) {
  const Tensors wanted = {{"all", vector_of(DType::BF16, 1)},
                          {"alone", vector_of(DType::BF16, 1)},
                          {"lossy", vector_of(DType::F32, 1)},
                          {"rest", vector_of(DType::BF16, 2)}};
  Tensors found = {{"all", vector_of(DType::F32, 1)},
                   {"alone", vector_of(DType::F16, 1)},
                   {"lossy", vector_of(DType::F32, 1)},
                   {"rest", vector_of(DType::F32, 2)}};
  EXPECT_EQ(differing(wanted, found, true), (std::vector<std::string>{"alone"}));
  EXPECT_EQ(differing(wanted, found, false), (std::vector<std::string>{"all", "alone", "rest"}));
  found.at("all") = vector_of(DType::F32, 1.0001);
  EXPECT_EQ(differing(wanted, found, true), (std::vector<std::string>{"all", "alone"}));
  // 1.0001 in BF16 is 1: narrowed with the others, and lost.
  EXPECT_EQ(differing({{"a", vector_of(DType::F32, 1.0001)}, {"b", vector_of(DType::F32, 2)}},
                      {{"a", vector_of(DType::BF16, 1)}, {"b", vector_of(DType::BF16, 2)}}, true),
            (std::vector<std::string>{"a"}));
  // Neither type is that of more than half.
  EXPECT_EQ(differing({{"a", vector_of(DType::F32, 1)}, {"b", vector_of(DType::F32, 2)}},
                      {{"a", vector_of(DType::BF16, 1)}, {"b", vector_of(DType::F16, 2)}}, true),
            (std::vector<std::string>{"a", "b"}));
}

/// Every tensor has the wanted bits under the name of another type of the same width: other values.
TEST(OwnDtype, ACheckpointWhoseLabelsAreWrongIsNotACast) {
  const Tensors wanted = {{"a", vector_of(DType::BF16, 1)}, {"b", vector_of(DType::BF16, 2)}};
  for (const DType label : {DType::F16, DType::U16, DType::I16}) {
    Tensors found = wanted;
    for (auto& [name, tensor] : found) {
      tensor.spec.dtype = label;
    }
    EXPECT_EQ(differing(wanted, found, true), (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(differing(found, wanted, true), (std::vector<std::string>{"a", "b"}));
  }
  // Zeros are the same in every type of floating point.
  Tensors zeros = wanted;
  for (auto& [name, tensor] : zeros) {
    tensor.bytes.assign(tensor.bytes.size(), std::byte{0});
  }
  Tensors cast = zeros;
  for (auto& [name, tensor] : cast) {
    tensor.spec.dtype = DType::F16;
  }
  EXPECT_EQ(differing(zeros, cast, true), (std::vector<std::string>{}));
}

}  // namespace
}  // namespace bv::compare
