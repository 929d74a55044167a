#include "properties/claims/slices.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"
#include "core/serve/pieces.hpp"
#include "core/serve/slices_folder.hpp"
#include "oracles/lora_slices.hpp"
#include "properties/claims/adapter_verdicts.hpp"
#include "properties/claims/slice_rows.hpp"

namespace bv::claims {
namespace {

using Json = nlohmann::json;

constexpr const char* kClaim = "adapter-slices";
constexpr const char* kHelp = "slice the adapter again: bridge-verify lora slice";

Verdict refuted(Code code, const std::string& subject, std::string title, std::string found,
                std::string wanted) {
  Verdict out = adapter_verdict(kClaim, subject, Outcome::Refuted, 1);
  out.code = code;
  out.megatron = io::printable(subject);
  out.title = std::move(title);
  out.found = std::move(found);
  out.wanted = std::move(wanted);
  out.help = kHelp;
  return out;
}

/// Compares the files with what slicing computes, and puts the parts together.
class SlicesJudge {
 public:
  SlicesJudge(const AdapterSubject& subject, const lora::SlicesFolder& folder,
              const std::vector<lora::ServedModule>& modules)
      : folder_(folder),
        modules_(modules),
        base_(subject, folder.serving.tp),
        wrong_(modules.size(), false) {}

  std::vector<Verdict> run() {
    for (std::size_t rank = 0; rank < folder_.files.size(); ++rank) {
      pieces_.push_back(lora::slice_pieces(modules_, rank));
    }
    for (std::size_t rank = 0; rank < folder_.files.size(); ++rank) {
      compare_rank(rank);
    }
    compare_description();
    for (std::size_t m = 0; m < modules_.size(); ++m) {
      if (!wrong_[m]) {
        judge_together(m);
      }
    }
    return std::move(out_);
  }

 private:
  void fault(std::optional<std::size_t> module, Verdict verdict) {
    if (module) {
      wrong_[*module] = true;
    }
    out_.push_back(std::move(verdict));
  }

  void compare_rank(std::size_t rank) {
    const io::Checkpoint& file = folder_.files[rank];
    const std::string name = lora::rank_file(rank);
    std::set<std::string_view> known;
    for (const lora::SlicePiece& piece : pieces_[rank]) {
      known.insert(piece.spec.name);
      const auto stored = file.tensors().find(piece.spec.name);
      if (stored == file.tensors().end()) {
        fault(piece.module,
              refuted(Code::ShardContents, piece.spec.name,
                      fmt::format("{} has no {}", name, io::in_quotes(piece.spec.name)),
                      "no such tensor", shape_text(piece.spec.shape)));
        continue;
      }
      compare_piece(rank, piece, stored->second);
    }
    for (const auto& [tensor, stored] : file.tensors()) {
      if (!known.contains(tensor)) {
        fault({}, refuted(Code::ShardContents, tensor,
                          fmt::format("{} has {}, which rank {} does not hold", name,
                                      io::in_quotes(tensor), rank),
                          shape_text(stored.spec.shape), "the factors of this rank alone"));
      }
    }
  }

  void compare_piece(std::size_t rank, const lora::SlicePiece& piece,
                     const io::StoredTensor& stored) {
    const std::string place =
        fmt::format("{} in {}", io::in_quotes(piece.spec.name), lora::rank_file(rank));
    if (stored.spec.shape != piece.spec.shape) {
      fault(piece.module,
            refuted(Code::ShapeMismatch, piece.spec.name, place + " has another shape",
                    shape_text(stored.spec.shape), shape_text(piece.spec.shape)));
      return;
    }
    if (stored.spec.dtype != piece.spec.dtype) {
      fault(piece.module,
            refuted(Code::DtypeChanged, piece.spec.name, place + " has another type",
                    std::string(name(stored.spec.dtype)), std::string(name(piece.spec.dtype))));
      return;
    }
    const std::vector<std::byte> wanted = lora::slice_bytes(piece);
    const auto found = folder_.files[rank].bytes(stored);
    if (!std::ranges::equal(found, wanted)) {
      fault(piece.module, differs(rank, piece, found, wanted));
    }
  }

  /// Whose contents it has: another part's, another row's, or nobody's.
  Verdict differs(std::size_t rank, const lora::SlicePiece& piece, std::span<const std::byte> found,
                  std::span<const std::byte> wanted) const {
    const std::string place =
        fmt::format("{} in {}", io::in_quotes(piece.spec.name), lora::rank_file(rank));
    for (std::size_t other = 0; other < pieces_.size(); ++other) {
      for (const lora::SlicePiece& one : pieces_[other]) {
        if (one.spec.shape == piece.spec.shape && one.spec.dtype == piece.spec.dtype &&
            std::ranges::equal(found, lora::slice_bytes(one))) {
          return refuted(
              Code::ContentsExchanged, piece.spec.name, place + " holds another's part",
              fmt::format("{} of {}", io::in_quotes(one.spec.name), lora::rank_file(other)),
              fmt::format("rows {} to {} of {}", piece.rows.begin, piece.rows.end,
                          piece.factor->key()));
        }
      }
    }
    const auto width = wanted.size() / static_cast<std::size_t>(piece.spec.shape[0]);
    std::size_t row = 0;
    while (
        std::ranges::equal(found.subspan(row * width, width), wanted.subspan(row * width, width))) {
      ++row;
    }
    for (std::size_t at = 0; (at + 1) * width <= wanted.size(); ++at) {
      if (std::ranges::equal(found.subspan(row * width, width),
                             wanted.subspan(at * width, width))) {
        return refuted(Code::WrongPlacement, piece.spec.name,
                       fmt::format("row {} of {} is another row", row, place),
                       fmt::format("row {}", at), fmt::format("row {}", row));
      }
    }
    return refuted(Code::BytesDiffer, piece.spec.name,
                   fmt::format("row {} of {} is not the adapter's", row, place), "other bytes",
                   fmt::format("row {} of {}", piece.rows.begin + static_cast<std::int64_t>(row),
                               piece.factor->key()));
  }

  /// slices.json says which member a slice is, and its scale: a server computes with both.
  void compare_description() {
    const Json found = Json::parse(folder_.text);
    const Json wanted = Json::parse(lora::slices_text(modules_, folder_.serving));
    if (found == wanted) {
      return;
    }
    const auto list = found.find("modules");
    std::optional<Verdict> first;
    for (std::size_t m = 0; m < modules_.size(); ++m) {
      const Json& right = wanted.at("modules").at(m);
      const bool there = list != found.end() && list->is_array() && m < list->size();
      if (there && list->at(m) == right) {
        continue;
      }
      wrong_[m] = true;
      if (first) {
        ++first->cases;
        ++first->refuted_cases;
      } else {
        first = not_described(m, there ? list->at(m) : Json(), right);
      }
    }
    fault({}, first ? std::move(*first)
                    : refuted(Code::ShardContents, lora::kSlicesName,
                              "slices.json says more than was sliced", "other entries",
                              counted(modules_.size(), "layer")));
  }

  [[nodiscard]] Verdict not_described(std::size_t m, const Json& has, const Json& right) const {
    const bool there = has.is_object();
    const bool members = there && has.value("members", Json()) != right.at("members");
    return refuted(members ? Code::ScaleWrong : Code::ShardContents, modules_[m].layer.name,
                   fmt::format("slices.json does not describe {} as it is sliced",
                               io::in_quotes(modules_[m].layer.name)),
                   members ? "other members, ranks or scales"
                   : there ? "other slices or buffers"
                           : "no such layer",
                   "those of the adapter");
  }

  void judge_together(std::size_t m) {
    const lora::ServedModule& module = modules_[m];
    for (std::size_t j = 0; j < module.members.size(); ++j) {
      const std::string wrong = module.members[j] == nullptr ? "" : put_together(m, j);
      if (!wrong.empty()) {
        fault(m,
              refuted(Code::WrongPlacement, module.layer.name,
                      fmt::format("the parts of {} do not make {}",
                                  io::in_quotes(module.layer.name), io::in_quotes(module.names[j])),
                      wrong, "parts that put together are the factors"));
        return;
      }
    }
    Verdict held = adapter_verdict(kClaim, module.layer.name, Outcome::Held, 1);
    held.megatron = module.layer.name;
    held.hf = module.names;
    held.evidence.bytes = true;
    held.evidence.oracle = true;
    out_.push_back(std::move(held));
  }

  /// The member from what the files hold under the slices that slices.json gives to it.
  [[nodiscard]] std::string put_together(std::size_t m, std::size_t j) {
    const Json said = Json::parse(folder_.text).at("modules").at(m);
    const lora::AdapterPair& pair = *modules_[m].members[j];
    oracle::SlicedMember member;
    member.a = matrix_of(pair.a);
    member.b = matrix_of(pair.b);
    member.element_bytes = bytes(pair.a.dtype);
    std::vector<std::size_t> slices;
    for (std::size_t i = 0; i < said.at("buffers").size(); ++i) {
      if (said.at("buffers").at(i).at("member") == j) {
        slices.push_back(i);
        member.slice_rows.push_back(said.at("slices").at(i).get<std::int64_t>());
      }
    }
    for (const io::Checkpoint& file : folder_.files) {
      auto& a = member.a_parts.emplace_back();
      auto& b = member.b_parts.emplace_back();
      for (const std::size_t i : slices) {
        const std::string stem = fmt::format("{}.{}.lora_", modules_[m].layer.name, i);
        a.push_back(stored_matrix(file, stem + "A.weight"));
        b.push_back(stored_matrix(file, stem + "B.weight"));
      }
    }
    add_base(modules_[m].layer, pair, member);
    return oracle::wrong_when_put_together(member);
  }

  /// What the ranks have of the base layer, where it is cut.
  void add_base(const lora::ServedLayer& layer, const lora::AdapterPair& pair,
                oracle::SlicedMember& member) {
    if (layer.kind == lora::LayerKind::Replicated) {
      return;
    }
    auto part = base_.of(pair);
    if (part && layer.kind == lora::LayerKind::Row) {
      member.base_columns = std::move(part->columns);
    } else if (part) {
      member.base_rows = std::move(part->rows);
    }
  }

  static oracle::SlicedMatrix stored_matrix(const io::Checkpoint& file, const std::string& tensor) {
    const io::StoredTensor& at = file.tensors().find(tensor)->second;
    const auto all = file.bytes(at);
    return {at.spec.shape[0], at.spec.shape[1], {all.begin(), all.end()}};
  }

  static oracle::SlicedMatrix matrix_of(const lora::Factor& factor) {
    oracle::SlicedMatrix out{factor.rows, factor.columns, {}};
    const auto size = static_cast<std::size_t>(bytes(factor.dtype));
    for (std::int64_t i = 0; i < factor.rows; ++i) {
      for (std::int64_t j = 0; j < factor.columns; ++j) {
        const std::byte* at = factor.at(i, j);
        out.bytes.insert(out.bytes.end(), at, at + size);
      }
    }
    return out;
  }

  const lora::SlicesFolder& folder_;
  const std::vector<lora::ServedModule>& modules_;
  SliceRows base_;
  std::vector<std::vector<lora::SlicePiece>> pieces_;  // [rank]
  std::vector<bool> wrong_;
  std::vector<Verdict> out_;
};

/// The ranks that slices.json says, and those whose files are there.
std::optional<Verdict> wrong_ranks(const lora::SlicesFolder& folder) {
  const auto there = std::ssize(folder.ranks);
  std::int64_t first_absent = 0;
  while (first_absent < there && folder.ranks[static_cast<std::size_t>(first_absent)] ==
                                     static_cast<std::size_t>(first_absent)) {
    ++first_absent;
  }
  if (first_absent == there && there == folder.serving.tp) {
    return std::nullopt;
  }
  const std::string absent = lora::rank_file(static_cast<std::size_t>(first_absent));
  const std::string wanted = fmt::format("tp {} of slices.json", folder.serving.tp);
  const std::string found = fmt::format("the files of {}", counted(there, "rank"));
  return first_absent < folder.serving.tp
             ? refuted(
                   Code::ShardContents, absent,
                   fmt::format("{} is missing: slices.json says tp {}", absent, folder.serving.tp),
                   found, wanted)
             : refuted(Code::ShardContents, lora::kSlicesName,
                       fmt::format("slices.json says tp {}, and the folder holds {}",
                                   folder.serving.tp, found),
                       found, wanted);
}

}  // namespace

Result<std::vector<Verdict>> judge_slices(const AdapterSubject& subject,
                                          const std::filesystem::path& path) {
  BV_TRY(folder, lora::open_slices(path));
  if (auto wrong = wrong_ranks(folder)) {
    return std::vector{std::move(*wrong)};
  }
  auto modules =
      lora::serve_adapter(*subject.base, *subject.kinds, *subject.adapter, folder.serving);
  if (!modules) {
    Verdict out = of_error(kClaim, modules.error(), 1);
    if (modules.error().code != Code::AdapterNoForm) {  // what slices.json says cannot be
      out.outcome = Outcome::Refuted;
      out.refuted_cases = 1;
    }
    out.megatron = lora::kSlicesName;
    return std::vector{std::move(out)};
  }
  return SlicesJudge(subject, folder, *modules).run();
}

}  // namespace bv::claims
