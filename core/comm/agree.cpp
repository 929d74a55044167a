#include "core/comm/agree.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <map>
#include <numeric>

#include "core/base/arith.hpp"
#include "core/base/progress.hpp"
#include "core/base/text.hpp"
#include "core/base/workers.hpp"
#include "core/comm/shares.hpp"
#include "core/io/digest.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/mapped_file.hpp"

namespace bv::comm {
namespace {

constexpr std::int64_t kPieceBytes = std::int64_t{8} << 20;

/// The value of a fact among "what, value, what, value, ..."; nullptr when it is not there.
const std::string* value_in(const std::vector<std::string>& texts, const std::string& what) {
  for (std::size_t i = 0; i + 2 <= texts.size(); i += 2) {
    if (texts[i] == what) {
      return &texts[i + 1];
    }
  }
  return nullptr;
}

/// The first fact that the two do not have alike; nullptr when they agree.
const std::string* first_difference(const std::vector<std::string>& a,
                                    const std::vector<std::string>& b) {
  for (const auto* one : {&a, &b}) {
    for (std::size_t i = 0; i + 2 <= one->size(); i += 2) {
      const std::string* const here = value_in(a, (*one)[i]);
      const std::string* const there = value_in(b, (*one)[i]);
      if (here == nullptr || there == nullptr || *here != *there) {
        return &(*one)[i];
      }
    }
  }
  return nullptr;
}

std::string shown(const std::string* value) {
  return value == nullptr || value->empty() ? "not given" : io::printable(*value);
}

/// The system that runs here, so that numbers of devices and inodes mean the same files.
std::string this_system(int rank) {
  std::array<char, 256> host{};
  std::ifstream file("/proc/sys/kernel/random/boot_id");  // without a size: io refuses such files
  std::string id;
  if (!std::getline(file, id) || id.empty() || ::gethostname(host.data(), host.size() - 1) != 0) {
    return fmt::format("rank {}", rank);  // nothing to know it by: like no other
  }
  return id + host.data();
}

/// The stores that the tensors are of, in the order of the tensors.
std::vector<const io::TensorStore*> stores_of(std::span<const ReadTensor> tensors) {
  std::vector<const io::TensorStore*> out;
  for (const ReadTensor& one : tensors) {
    if (std::find(out.begin(), out.end(), one.tensor.store) == out.end()) {
      out.push_back(one.tensor.store);
    }
  }
  return out;
}

/// Where this rank reads, and which files these are. Equal texts, but for the first, are the same
/// files.
Result<std::vector<std::string>> files_of(Link& world, std::span<const ReadTensor> tensors) {
  std::vector<std::string> out = {"", this_system(world.rank())};
  for (const io::TensorStore* store : stores_of(tensors)) {
    for (const std::filesystem::path& path : store->files()) {
      BV_TRY(file, io::open_regular(path));
      const io::FileStamp& stamp = file.stamp;
      out.push_back(
          fmt::format("{} {} {} {}", stamp.device, stamp.inode, stamp.size, stamp.modified_ns));
      if (out[0].empty()) {
        out[0] = io::printable_path(std::filesystem::absolute(path).parent_path());
      }
    }
  }
  return out;
}

/// By rank: the first rank that has the same copy.
std::vector<int> copies_of(const std::vector<std::vector<std::string>>& files) {
  std::map<std::vector<std::string>, int> first;
  std::vector<int> out;
  for (std::size_t rank = 0; rank < files.size(); ++rank) {
    const auto begin = files[rank].begin() + (files[rank].empty() ? 0 : 1);
    out.push_back(
        first.try_emplace({begin, files[rank].end()}, static_cast<int>(rank)).first->second);
  }
  return out;
}

/// Indices of tensors that the ranks of a copy fingerprint: what they read; of the copy of rank 0
/// what the others read.
std::vector<std::size_t> wanted_of(std::span<const ReadTensor> tensors,
                                   const std::vector<int>& copies, int copy) {
  std::vector<std::size_t> out;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto& ranks = tensors[i].ranks;
    if (std::any_of(ranks.begin(), ranks.end(), [&](int rank) {
          const int of = copies[static_cast<std::size_t>(rank)];
          return copy == 0 ? of != 0 : of == copy;
        })) {
      out.push_back(i);
    }
  }
  return out;
}

/// Those of them that this rank fingerprints.
std::vector<std::size_t> share_of(std::span<const ReadTensor> tensors,
                                  const std::vector<int>& copies, int rank) {
  const int copy = copies[static_cast<std::size_t>(rank)];
  const std::vector<std::size_t> wanted = wanted_of(tensors, copies, copy);
  int members = 0;
  int place = 0;
  for (std::size_t other = 0; other < copies.size(); ++other) {
    place = static_cast<int>(other) == rank ? members : place;
    members += copies[other] == copy ? 1 : 0;
  }
  std::vector<std::uint64_t> sizes;
  for (const std::size_t i : wanted) {
    sizes.push_back(tensor_bytes(*tensors[i].tensor.spec));
  }
  const std::vector<int> member = balanced(sizes, members);
  std::vector<std::size_t> out;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (member[i] == place) {
      out.push_back(wanted[i]);
    }
  }
  return out;
}

/// Elements that are made are fingerprinted as they are read, in ranges of what is made together.
Status add_made(const TensorSpec& spec, const ElementMaker& maker, io::Digest& digest) {
  const std::int64_t bits_of = bits(spec.dtype);
  const std::int64_t granule = std::max<std::int64_t>(1, maker.granule());
  const std::int64_t unit = granule * std::max<std::int64_t>(1, 8 / std::gcd(granule * bits_of, 8));
  const std::int64_t step = std::max<std::int64_t>(1, kPieceBytes * 8 / bits_of / unit) * unit;
  std::vector<std::byte> bytes;
  for (std::int64_t begin = 0; begin < maker.elements(); begin += step) {
    const std::int64_t end = std::min(maker.elements(), begin + step);
    bytes.resize(static_cast<std::size_t>(((end - begin) * bits_of + 7) / 8));
    BV_CHECK(maker.make(begin, end, bytes.data()));
    digest.add(bytes);
  }
  return Done{};
}

Result<std::string> fingerprint(const checkpoint::SourceTensor& tensor) {
  io::Digest digest;
  const auto chunks = tensor.store->chunks(*tensor.spec);
  if (chunks.front().made != nullptr) {
    BV_CHECK(add_made(*tensor.spec, *chunks.front().made, digest));
    checkpoint::release({&tensor, 1});
    return digest.hex();
  }
  checkpoint::TensorBytes whole(tensor);
  for (ByteOffset at; at < whole.size(); at += ByteOffset(kPieceBytes)) {
    digest.add(whole.read(at, std::min(whole.size(), at + ByteOffset(kPieceBytes))));
    whole.release();
  }
  return digest.hex();
}

/// "index, fingerprint, index, fingerprint, ..." of this rank's share.
Result<std::vector<std::string>> fingerprints(std::span<const ReadTensor> tensors,
                                              const std::vector<std::size_t>& share, int jobs,
                                              ProgressSink* progress) {
  std::vector<std::string> out(share.size() * 2);
  BV_CHECK(for_each_parallel(share.size(), jobs, [&](std::size_t i) -> Status {
    if (progress != nullptr && progress->stop_requested()) {
      return fail(Code::Stopped, "stopped before the end").advise("run it again");
    }
    BV_TRY(digest, fingerprint(tensors[share[i]].tensor));
    out[2 * i] = std::to_string(share[i]);
    out[2 * i + 1] = std::move(digest);
    return Done{};
  }));
  return out;
}

}  // namespace

Status agree_on_facts(Link& world, std::span<const Fact> mine) {
  std::vector<std::string> texts;
  for (const Fact& fact : mine) {
    texts.push_back(fact.what);
    texts.push_back(fact.value);
  }
  BV_TRY(all, exchanged(world, texts, "what each process was told"));
  for (std::size_t rank = 1; rank < all.size(); ++rank) {
    if (const std::string* what = first_difference(all[rank], all[0])) {
      return fail(Code::RankDiverged,
                  fmt::format("{} has another {} than {}", world.name_of(static_cast<int>(rank)),
                              io::printable(*what), world.name_of(0)))
          .pair(shown(value_in(all[rank], *what)), shown(value_in(all[0], *what)))
          .advise("start every process with the same command line and the same files");
    }
  }
  return Done{};
}

Status agree_on_contents(Link& world, std::span<const ReadTensor> tensors, int jobs,
                         ProgressSink* progress) {
  BV_TRY(mine, files_of(world, tensors));
  BV_TRY(files, exchanged(world, mine, "which files each process reads"));
  const std::vector<int> copies = copies_of(files);
  if (std::all_of(copies.begin(), copies.end(), [](int copy) { return copy == 0; })) {
    return Done{};
  }
  BV_TRY(found, fingerprints(tensors, share_of(tensors, copies, world.rank()), jobs, progress));
  BV_TRY(all, exchanged(world, found, "fingerprints of what is read"));
  std::map<std::size_t, std::map<int, std::string>> of_tensor;  // copy -> fingerprint
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    for (std::size_t i = 0; i + 2 <= all[rank].size(); i += 2) {
      std::size_t tensor = tensors.size();
      const std::string& text = all[rank][i];
      std::from_chars(text.data(), text.data() + text.size(), tensor);
      of_tensor[tensor][copies[rank]] = all[rank][i + 1];
    }
  }
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    for (const int rank : tensors[i].ranks) {
      const auto at = static_cast<std::size_t>(rank);
      if (copies[at] == 0) {
        continue;
      }
      const std::string& here = of_tensor[i][copies[at]];
      const std::string& first = of_tensor[i][0];
      if (here.empty() || here != first) {
        return fail(Code::RankDiverged,
                    fmt::format("{} reads other bytes than {}: {} is not the same in their copies",
                                world.name_of(rank), world.name_of(0),
                                io::printable(tensors[i].tensor.spec->name)))
            .pair(fmt::format("{} in {}", here, files[at][0]),
                  fmt::format("{} in {}", first, files[0][0]))
            .advise("give all processes one copy of the checkpoint, or equal ones");
      }
    }
  }
  return Done{};
}

}  // namespace bv::comm
