#include "core/convert/fingerprints.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "core/base/workers.hpp"

namespace bv::convert {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{8} << 20;

/// Where each content was written, so that a tensor's new content can be found again.
class Origins {
 public:
  explicit Origins(const io::Digests& written) {
    for (const auto& [file, tensors] : written) {
      for (const auto& [tensor, digest] : tensors) {
        places_[digest].push_back({file, tensor});
      }
    }
  }

  /// The same tensor of another file first, then another tensor of the same file. A content that
  /// tensors of several names had (zeros) tells nothing.
  [[nodiscard]] std::optional<ShardTensor> of(const std::string& digest,
                                              const ShardTensor& where) const {
    const auto found = places_.find(digest);
    if (found == places_.end()) {
      return std::nullopt;
    }
    std::set<std::string> names;
    const ShardTensor* same_file = nullptr;
    for (const ShardTensor& place : found->second) {
      if (place.tensor == where.tensor) {
        return place;
      }
      names.insert(place.tensor);
      same_file = same_file == nullptr && place.file == where.file ? &place : same_file;
    }
    if (names.size() > 1) {
      return std::nullopt;
    }
    return same_file != nullptr ? *same_file : found->second.front();
  }

 private:
  std::map<std::string, std::vector<ShardTensor>> places_;
};

std::string digest_of(const checkpoint::SourceTensor& stored) {
  io::Digest hash;
  checkpoint::TensorBytes whole(stored);
  constexpr ByteOffset kPiece(static_cast<std::int64_t>(kPieceBytes));
  for (ByteOffset at; at < whole.size(); at += kPiece) {
    hash.add(whole.read(at, std::min(whole.size(), at + kPiece)));
    whole.release();
  }
  return hash.hex();
}

}  // namespace

std::vector<plan::Plan::Owner> shard_tensors(const plan::Plan& plan) {
  std::vector<plan::Plan::Owner> out;
  for (std::size_t f = 0; f < plan.files().size(); ++f) {
    for (std::size_t i = 0; i < plan.files()[f].targets.size(); ++i) {
      out.push_back({f, i});
    }
  }
  return out;
}

Result<Fingerprints> compare_fingerprints(const checkpoint::Shards& shards, const plan::Plan& plan,
                                          const io::Digests& written, int jobs,
                                          ProgressSink* progress) {
  const std::vector<plan::Plan::Owner> tasks = shard_tensors(plan);
  std::uint64_t bytes = 0;
  for (std::size_t f = 0; f < plan.files().size(); ++f) {
    bytes += shards[f]->total_bytes();
  }
  if (progress != nullptr) {
    progress->start("fingerprints", bytes, tasks.size());
  }
  std::vector<std::string> digests(tasks.size());
  BV_CHECK(for_each_parallel(tasks.size(), jobs, [&](std::size_t i) -> Status {
    const checkpoint::SourceTensor stored = checkpoint::stored_at(shards, plan, tasks[i]);
    digests[i] = digest_of(stored);
    if (progress != nullptr) {
      progress->advance(tensor_bytes(*stored.spec), 1, stored.spec->name);
      if (progress->stop_requested()) {
        return fail(Code::Stopped, "stopped before the end").advise("run it again");
      }
    }
    return Done{};
  }));
  for (const auto& shard : shards) {
    BV_CHECK(shard->unchanged());
  }
  return compare_digests(plan, written, std::move(digests));
}

Fingerprints compare_digests(const plan::Plan& plan, const io::Digests& written,
                             std::vector<std::string> digests) {
  const std::vector<plan::Plan::Owner> tasks = shard_tensors(plan);
  Fingerprints out;
  const Origins origins(written);
  out.tensors = static_cast<std::int64_t>(tasks.size());
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    ShardTensor where{plan.files()[tasks[i].file].name, checkpoint::target_at(plan, tasks[i]).name};
    if (written.at(where.file).at(where.tensor) != digests[i]) {
      auto holds = origins.of(digests[i], where);
      out.changes.push_back({where, std::move(holds)});
    }
    out.found[where.file][where.tensor] = std::move(digests[i]);
  }
  std::sort(out.changes.begin(), out.changes.end(),
            [](const Change& a, const Change& b) { return a.where < b.where; });
  return out;
}

}  // namespace bv::convert
