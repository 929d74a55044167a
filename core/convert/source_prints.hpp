#pragma once
// Fingerprints of source tensors, made while outputs are made of them.

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "core/checkpoint/source_tensor.hpp"
#include "core/io/digest.hpp"
#include "core/layout/box.hpp"

namespace bv::convert {

/// What a window has just read is still in a cache: its sources are fingerprinted up to there, each
/// byte once and in order. What no output needs, or not in that order, is read besides.
class SourcePrints {
 public:
  /// The stores must outlive this. A tensor of several chunks, or a computed one, is read at the
  /// end.
  explicit SourcePrints(std::vector<checkpoint::SourceTensor> tensors);
  SourcePrints(const SourcePrints&) = delete;
  SourcePrints& operator=(const SourcePrints&) = delete;
  ~SourcePrints();

  /// Those among `sources` that are fingerprinted here, by their number; null for others.
  class Readers;
  [[nodiscard]] Readers readers(std::span<const checkpoint::SourceTensor> sources);

  /// XXH3-128 of all bytes, in the order of the constructor; once.
  [[nodiscard]] Result<std::vector<std::string>> finish(int jobs);

 private:
  struct One;
  std::vector<std::unique_ptr<One>> all_;
  std::map<const TensorSpec*, One*> by_spec_;
};

class SourcePrints::Readers {
 public:
  Readers() = default;
  explicit Readers(std::vector<One*> sources) : sources_(std::move(sources)) {}
  /// Elements of these pieces were read; offsets and strides are elements of the sources.
  void note(std::span<const layout::BoxPiece> pieces);

 private:
  std::vector<One*> sources_;
  std::vector<std::int64_t> ends_;
};

}  // namespace bv::convert
