#include "core/convert/read_back.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "core/base/workers.hpp"
#include "core/convert/stream.hpp"
#include "core/io/carry_file.hpp"
#include "core/io/checkpoint.hpp"
#include "core/io/digest.hpp"

namespace bv::convert {

Result<std::map<std::string, std::string>> digests_of_file(const std::filesystem::path& path) {
  constexpr std::size_t kReadBytes = std::size_t{8} << 20;
  BV_TRY(checkpoint, io::Checkpoint::open(path));
  std::map<std::string, std::string> out;
  for (const auto& [name, stored] : checkpoint.tensors()) {
    io::Digest hash;
    const auto whole = checkpoint.bytes(stored);
    for (std::size_t at = 0; at < whole.size(); at += kReadBytes) {
      const auto part = whole.subspan(at, std::min(whole.size() - at, kReadBytes));
      hash.add(part);
      checkpoint.release(part);
    }
    out[name] = hash.hex();
  }
  return out;
}

Status verify_files(const std::filesystem::path& folder, const io::Digests& digests, int jobs) {
  std::vector<std::pair<std::string, const std::map<std::string, std::string>*>> list;
  for (const auto& [name, tensors] : digests) {
    list.emplace_back(name, &tensors);
  }
  return for_each_parallel(list.size(), jobs, [&](std::size_t i) -> Status {
    BV_CHECK(io::drop_cached(folder / list[i].first));
    BV_TRY(found, digests_of_file(folder / list[i].first));
    for (const auto& [tensor, wanted] : *list[i].second) {
      const auto there = found.find(tensor);
      if (there == found.end() || there->second != wanted) {
        return fail(Code::WriteLost,
                    fmt::format("{} in {} is not what was written", tensor, list[i].first))
            .pair(there == found.end() ? "no such tensor" : there->second, wanted)
            .advise("the disk lost a write: check the machine, then convert again");
      }
    }
    return Done{};
  });
}

}  // namespace bv::convert
