#pragma once
// The processes that torchrun, srun or mpirun started with this one, for a command that they do
// together. Rank 0 speaks and writes reports; all end with its exit code.

#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "ci/cli/session/context.hpp"
#include "ci/cli/session/session.hpp"
#include "core/checkpoint/megatron_folder.hpp"
#include "core/comm/launch.hpp"

namespace bv::cli {

class World {
 public:
  /// No connection is made for a process that is alone. In a world, all but rank 0 are silent from
  /// then on, and `options` loses what writes reports; without --jobs the processes of a host share
  /// its cores. Errors: those of comm::launch_from and comm::meet; RankDiverged when the processes
  /// were told different things.
  static Result<World> enter(Context& context, Options& options);

  /// Null for a process that is alone.
  [[nodiscard]] comm::Link* link() const { return link_.get(); }
  [[nodiscard]] bool is_host() const;
  /// Runs `work`. What it throws is told to the others, and thrown again.
  [[nodiscard]] Result<Run> doing(const std::function<Result<Run>()>& work);
  /// The end of a command with an error: told to the others; rank 0 reports it (command.hpp) and
  /// all end with its exit code. The others say in one line which rank is lost or does something
  /// else, and an error of their own that rank 0 did not tell, or could not. Returns the exit code.
  [[nodiscard]] int fail_with(Context& context, const Options& options, const Error& why);
  /// The end of a command: `report` (finish, report_and_finish) when all have done their part, and
  /// the exit code of rank 0 on all. What is collected for stdout goes out after it.
  [[nodiscard]] int end_with(Context& context, const Options& options, Run run,
                             int (*report)(Context&, const Options&, Run));

 private:
  std::unique_ptr<comm::Link> link_;
};

/// The end of a process that has met nobody, with an error that it has reported: the others of its
/// world need not wait for it. It waits for them, no longer than the patience lasts.
void decline_world(const Context& context, const Options& options, const Error& why);

/// All processes are about to do the same, named by `what`; nothing to do without a world. Messages
/// name ranks by their coordinates on the first layout from now on. Errors: RankDiverged with what
/// the others do.
[[nodiscard]] Status agree_on(comm::Link* world, std::span<const parallel::Layout> layouts,
                              const std::string& what);

/// All processes read the same headers, config, rules and families; of the bytes see
/// comm::agree_on_contents. Errors: RankDiverged with the first that is another one.
[[nodiscard]] Status agree_on_model(comm::Link* world, const Options& options,
                                    const OpenedModel& opened);
/// The same of a Megatron folder of ours: manifest, config and rules.
[[nodiscard]] Status agree_on_folder(comm::Link* world, const checkpoint::MegatronFolder& folder,
                                     const Options& options);

}  // namespace bv::cli
