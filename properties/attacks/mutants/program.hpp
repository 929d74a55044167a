#pragma once
// A bridge as data: one move a Megatron tensor of a shard file. A fault is a change of these
// values; running the changed program gives the shards and the export that a faulty bridge would
// leave behind.

#include <cstddef>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/plan/plan.hpp"

namespace bv::mutants {

struct Tensor {
  DType dtype = DType::BF16;
  Shape shape;
  std::vector<std::byte> bytes;
  bool operator==(const Tensor&) const = default;
};
using Tensors = std::map<std::string, Tensor, std::less<>>;

/// What a move computes with its elements; the default moves bits. `cast` is the type of the
/// Megatron tensor.
struct Arithmetic {
  double add = 0;
  double scale = 1;
  std::optional<DType> cast;
  bool cast_first = false;            // the sum is taken in the type of the target
  std::optional<DType> through = {};  // the sum is taken in this type, there and back
  bool in_place = false;              // the sum is written into the source as well
  bool operator==(const Arithmetic&) const = default;
};

struct Move {
  std::size_t file = 0;  // into Program::files
  std::string name;      // local
  std::string global_name;
  std::uint32_t mapping = 0;
  std::string rule;
  std::int64_t index = -1;        // layer
  std::int64_t local_index = -1;  // layer within its pipeline stage
  std::int64_t expert = -1;
  std::int64_t local_expert = -1;
  std::int64_t t = 0;
  bool copy = false;
  bool is_expert = false;  // cut by ETP
  bool vocabulary = false;
  std::vector<std::string> hf;
  std::vector<Shape> hf_shapes;
  Shape shape;
  std::vector<layout::Box> boxes;
  std::vector<std::string> parts;  // names of what Box::part numbers
  Arithmetic arithmetic;
  bool last_expert_wins = false;      // the export writes one expert over the other
  bool squeezes = false;              // the export drops dimensions of extent 1
  std::optional<std::int64_t> stale;  // after the import this element of the copy has another value
};

struct Program {
  parallel::Layout layout;
  std::vector<parallel::ShardKey> files;
  std::vector<std::string> file_names;
  std::vector<Move> moves;
};

/// Flattens the engine's plan. Errors: those of plan::Plan::make.
[[nodiscard]] Result<Program> compile(const model::Model& model, const kinds::Catalogue& kinds,
                                      const parallel::Layout& layout);

/// A move that does not run: the HF tensor is not there (the upstream bridge warns and goes on), or
/// has not the shape that the rule wants (it raises).
struct Refusal {
  std::string global_name;
  std::string hf;
  bool missing = false;
  Shape found;
  Shape wanted;
};

/// The shards of a run of the import.
struct Image {
  std::vector<Tensors> files;                            // by local name
  std::set<std::pair<std::size_t, std::string>> filled;  // written at least once
  std::vector<std::string> loud;                         // faults that stop a bridge by themselves
  std::vector<Refusal> refusals;
};

/// What a Megatron parameter holds before anything is written to it.
using Fill = std::function<void(Tensor&, const Move&)>;

/// Runs the moves on a model that has the parameters of `right`. Writing an unknown parameter adds
/// it. `hf` changes only when a move computes in place.
[[nodiscard]] Image run_import(const Program& right, const Program& program, Tensors& hf,
                               const Fill& fill);

/// The HF tensors that the moves give back; parameters that are not there are skipped, as the
/// upstream bridge does.
struct Export {
  Tensors tensors;
  std::vector<std::string> loud;
};
[[nodiscard]] Export run_export(const Program& program, const Image& image, const Headers& headers,
                                std::byte poison);

/// What the move's arithmetic makes of one HF tensor, followed by what undoing it gives back.
[[nodiscard]] std::vector<std::byte> computed(const Move& move, const Tensor& values);

}  // namespace bv::mutants
