#pragma once
// Two checkpoints compared element by element, streaming: an HF directory with another one, or with
// the Megatron shards that it should have become.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/progress.hpp"
#include "core/base/units.hpp"
#include "core/checkpoint/hf_model.hpp"
#include "core/checkpoint/source_tensor.hpp"
#include "core/plan/dtype_policy.hpp"
#include "core/plan/plan.hpp"

namespace bv::comm {
class Link;
}

namespace bv::compare {

/// What a tensor must hold: boxes over source tensors that tile it, as a value. Offsets and axes of
/// the boxes are units of units_of(spec).
struct View {
  TensorSpec spec;  // shape and dtype of what is made
  std::vector<checkpoint::SourceTensor> sources;
  std::vector<layout::Box> boxes;
  double add = 0;  // added in the sources' dtype before the cast; 0 moves bits
};

/// What is compared and counted: elements, or bytes for the types below a byte (F4, F6), whose
/// elements nothing can address. Rows and offsets of readers are units, never elements of such a
/// type. Example: F4 [8, 64] is U8 [8, 32], 256 units; BF16 [8, 64] is itself, 512 units.
struct Units {
  DType dtype = DType::U8;  // that of the tensor, or U8
  Shape shape;              // of units: the last dimension in bytes, or all of them in one
  std::int64_t count = 0;
};
[[nodiscard]] Units units_of(const TensorSpec& spec);

/// The rows that messages, hashes and confidences count: the last dimension of a matrix or a stack
/// of matrices, all trailing dimensions of a convolution, one element of a vector.
struct RowShape {
  std::int64_t count = 0;
  ElementOffset elements{1};  // of one row
};
[[nodiscard]] RowShape rows_of(const Shape& shape);

/// Reads elements of a view; what no box covers is zero. Types below a byte count as bytes.
class ViewReader {
 public:
  explicit ViewReader(const View& view);
  /// Elements [begin, end), or bytes of a type below a byte; valid until the next call. Runs at the
  /// source are not copied.
  [[nodiscard]] std::span<const std::byte> read(ElementOffset begin, ElementOffset end);
  [[nodiscard]] ElementOffset elements() const { return ElementOffset(maker_.elements()); }
  [[nodiscard]] ElementWidth width() const { return maker_.width(); }
  /// Gives mapped pages of the sources back to the system.
  void release() const;

 private:
  const View& view_;
  move::TensorMaker maker_;
};

/// A known way for a tensor to be wrong.
enum class Cause {
  SwappedParts,  // gate and up exchanged
  HeadMajor,     // joined without regrouping by query group
  CutAfterJoin,  // joined first, then cut over TP as one block
  Alternating,   // rows of two parts alternate
  OtherRank,     // the shard of another rank
  OtherLayer,    // off by k layers
  OtherExpert,
  OtherTensor,
  Regrouped,  // the same rows in another order
  Transposed,
  Zeroed,
  PlusOne,
  MinusOne,
  Narrowed,        // rounded through a narrower type
  Widened,         // stored in a wider type, every value kept
  Recast,          // stored in a type that is neither wider nor narrower
  Relabelled,      // the wanted bits under the name of another type
  Padded,          // rows added to the vocabulary
  Truncated,       // rows cut from the vocabulary
  PaddingNotZero,  // of the vocabulary
  Missing,
  Unexpected,
  Renamed,  // unexpected, and it holds a missing tensor
  Stale,    // of a layer of multi-token prediction, when all else is as wanted
  Unexplained,
};
[[nodiscard]] std::string_view name(Cause cause);

/// What would be in the tensor if one fault had happened.
struct Candidate {
  Cause cause = Cause::Unexplained;
  std::string text;  // "gate and up are exchanged"
  View view;
};

/// One tensor of the wanted side and what B holds in its place.
struct Subject {
  std::string tensor;           // name in B
  std::string global;           // name with global layer and expert numbers; "": `tensor`
  std::string place;            // "pp0_tp1_ep0_etp0", "" for an HF tensor
  std::vector<std::string> hf;  // the HF tensors that it is made of; none: `tensor`
  bool vocabulary = false;
  bool repeats = false;  // the same bytes as an earlier subject: takes no part in the row table
  TensorSpec spec;       // wanted
  std::function<View()> wanted;
  std::optional<checkpoint::SourceTensor> found;
  /// The widest type of the parameters that B stores in one tensor with this one (share_tensors).
  std::optional<DType> shared_dtype;
  /// Faults that this tensor's rule makes possible.
  std::function<std::vector<Candidate>(const TensorSpec& found)> candidates;

  [[nodiscard]] const std::string& global_name() const { return global.empty() ? tensor : global; }
  [[nodiscard]] std::vector<std::string> hf_names() const {
    return hf.empty() ? std::vector{tensor} : hf;
  }
};

/// A tensor of B that nothing wants.
struct Stray {
  std::string tensor;
  std::string place;
  checkpoint::SourceTensor found;
};

struct Comparison {
  std::vector<Subject> subjects;
  std::vector<Stray> strays;
  std::vector<std::shared_ptr<const io::TensorStore>> keeps = {};  // those that it alone holds
};

/// Every tensor of `a` against the tensor of that name in `b`; both must outlive the result.
[[nodiscard]] Comparison compare_hf(const io::TensorStore& a, const io::TensorStore& b);
/// The same of the tensors that these headers name: dequantised weights, and not what is stored for
/// them.
[[nodiscard]] Comparison compare_hf(const io::TensorStore& a, const Headers& of_a,
                                    const io::TensorStore& b, const Headers& of_b);

/// Tensors that one side may leave out because another of its tensors holds their bytes.
using Copies = std::vector<std::pair<std::string, std::string>>;  // copy, what it repeats
/// A copy that one side alone stores is compared with what it repeats on the other; so it is on its
/// own side where the bytes are equal. `of_a` and `of_b` are copies that the sides store. Returns
/// a sentence for each.
std::vector<std::string> compare_copies(const io::TensorStore& a, const Copies& of_a,
                                        const io::TensorStore& b, const Copies& of_b,
                                        Comparison& comparison);

/// What each rank holds.
using Shards = std::map<parallel::ShardKey, std::unique_ptr<const io::TensorStore>>;

/// The layout that the names of the shard files state, joined with what names cannot say (`flags`:
/// first and last stage, padding). Errors: BadValue when `flags` contradicts the names or a shard
/// of the grid is missing.
[[nodiscard]] Result<parallel::Layout> layout_of_shards(const std::vector<std::string>& names,
                                                        const parallel::Layout& flags);

/// Every rank of the tensor-parallel groups is there: the cut parameters of `shards` have the sizes
/// that `layout`, read from the names, gives them. Names cannot show that the last ranks are
/// missing. Errors: CacheIncomplete when all cut parameters have the size of one larger group;
/// those of Plan::make.
[[nodiscard]] Status check_all_ranks(const model::Model& model, const kinds::Catalogue& kinds,
                                     const parallel::Layout& layout, const Shards& shards);

/// Rows of a vocabulary shard when TP does not divide the vocabulary of `model`: only the shards
/// say how far it was padded. nullopt when no padding is needed, or no shard holds the vocabulary.
[[nodiscard]] std::optional<std::int64_t> padded_shard_rows(const model::Model& model,
                                                            const parallel::Layout& layout,
                                                            const Shards& shards);

/// Every parameter that `plan` places against the tensor of its local name in its shard. All
/// arguments must outlive the result.
[[nodiscard]] Comparison compare_megatron(const checkpoint::HfModel& a, const plan::Plan& plan,
                                          const Shards& b, const plan::DtypePolicy& dtype);

/// `store` holds global tensors, B's. A tensor has one type: parameters of several layers or
/// experts that lie in one may have the widest of theirs.
void share_tensors(const io::TensorStore& store, const plan::Plan& plan, Comparison& comparison);

/// The floating-point type of more than half of the tensors that B holds, as --params-dtype of
/// Megatron gives it to them; nullopt when there is none.
[[nodiscard]] std::optional<DType> own_dtype(const Comparison& comparison);

struct Explanation {
  Cause cause = Cause::Unexplained;
  std::string text;
  std::int64_t rows_examined = 0;  // wrong rows, thinned to at most kRowsExamined
  std::int64_t rows_explained = 0;
  bool exact = false;             // a whole statement, not a share of rows (missing, padded)
  std::vector<std::string> runs;  // where the first rows came from
  std::int64_t shift = 0;         // of OtherLayer and OtherExpert, as in NameShift
  /// rows_explained / rows_examined; 1 for an exact statement.
  [[nodiscard]] double confidence() const;
};
inline constexpr std::size_t kRowsExamined = 2048;

/// One subject that is not equal, or one stray (`subject` is then Comparison::subjects.size() + i).
struct Difference {
  std::size_t subject = 0;
  bool shape_differs = false;
  bool dtype_differs = false;
  bool values_read = true;
  bool same_bits = false;               // the types differ, the bits do not
  bool bytes_differ = false;            // after a cast, when the types differ
  std::int64_t values_lost = 0;         // types differ: other values once cast to the wanted type
  Shape first;                          // index of the first wrong element
  std::string wanted_bits, found_bits;  // hex
  double wanted_value = 0, found_value = 0;
  bool has_values = false;
  std::int64_t ulps = -1;                         // distance in units of the last place; -1 without
  std::int64_t elements = 0, elements_wrong = 0;  // units of units_of
  std::int64_t rows = 0, rows_wrong = 0;          // of rows_of
  std::vector<std::int64_t> wrong_rows;           // thinned evenly to at most kRowsExamined
  Explanation explanation;
};

struct DiffReport {
  std::vector<Difference> differences;  // in subject order, strays last
  std::int64_t equal = 0;
  std::int64_t recast = 0;  // of `equal`: held in DiffOptions::own_dtype, every value kept
  std::int64_t shared = 0;  // of `equal`: held in Subject::shared_dtype, every value kept
  std::uint64_t bytes_compared = 0;
};

struct DiffOptions {
  int jobs = 1;
  /// The type of B as a whole (own_dtype): a tensor in it equals the wanted one when no value is
  /// lost. nullopt: every other type than the wanted one is a difference.
  std::optional<DType> own_dtype = {};
  bool values = true;  // false: shapes and types alone, of weights that were trained since
  ProgressSink* progress = nullptr;
  std::size_t table_rows_max = std::size_t{1} << 20;  // bounds the row table (16 bytes a row)
  /// Other processes that compare the same, with equal options: each compares, hashes and explains
  /// a part, and all get the whole report. Null: this process does all.
  comm::Link* world = nullptr;
  std::vector<int> processes = {};  // of each subject; empty: equal loads
};

/// Compares every subject, then explains each difference. Errors: Stopped, IndexDisagrees; of a
/// world those of comm::agree_on_facts, comm::agree_on_contents and comm::exchanged.
[[nodiscard]] Result<DiffReport> diff(const Comparison& comparison, const DiffOptions& options);

}  // namespace bv::compare
