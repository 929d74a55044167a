#pragma once
// One output folder that the processes of a world fill together.

#include <optional>
#include <string>
#include <vector>

#include "core/comm/link.hpp"
#include "core/convert/stream.hpp"
#include "core/io/output_folder.hpp"

namespace bv::convert {

class SharedOutput {
 public:
  /// Rank 0 makes the folder, and all others must see it. `world` may be null: then this process is
  /// all there is. Errors: those of io::OutputFolder and comm::Link; OutputPlace naming the host
  /// that does not see the folder.
  static Result<SharedOutput> create(io::OutputRequest request, const std::set<std::string>& files,
                                     comm::Link* world);

  [[nodiscard]] const std::filesystem::path& partial() const { return partial_; }
  /// Makes manifest and name of the folder: rank 0, or the only process.
  [[nodiscard]] bool is_host() const { return world_ == nullptr || world_->rank() == 0; }
  /// A process for each file, with equal loads.
  [[nodiscard]] std::vector<int> balanced(const std::vector<io::SafetensorsPlan>& plans) const;
  /// Writes the files that `processes` gives to this one, reads them back when asked to, and
  /// returns the fingerprints of all files of the world, which are made of one copy of the sources.
  /// Errors: those of comm::agree_on_contents, write_files and verify_files.
  [[nodiscard]] Result<io::Digests> write(const std::vector<OutputFile>& files,
                                          std::vector<io::SafetensorsPlan> plans,
                                          const std::vector<int>& processes,
                                          const StreamOptions& options, bool verify);
  /// On the host: io::OutputFolder::finish, when all have done their part (comm::Link::all_done).
  /// The others do nothing but end after it.
  [[nodiscard]] Status finish(const std::set<std::string>& files);
  /// On the host: removes the unfinished folder. Nothing on the others.
  void abandon();

 private:
  comm::Link* world_ = nullptr;
  std::filesystem::path partial_;
  std::optional<io::OutputFolder> folder_;  // of the host
};

/// What the host says, on all processes: `mine` where there is no world.
[[nodiscard]] Result<bool> told_by_host(comm::Link* world, bool mine, std::string_view what);

}  // namespace bv::convert
