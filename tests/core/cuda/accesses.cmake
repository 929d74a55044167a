# What nvcc makes of the kernels: arrays of a thread stay in registers, and memory is not accessed byte by byte but for
# elements of one byte. NVCC, SOURCE (of the project), OUTPUT.
execute_process(
  COMMAND ${NVCC} -std=c++20 -O3 -fmad=false -ftz=false --expt-relaxed-constexpr -arch=compute_90 -I${SOURCE} -ptx
          ${SOURCE}/core/cuda/kernels.cu -o ${OUTPUT}
  COMMAND_ERROR_IS_FATAL ANY)
file(READ ${OUTPUT} text)
string(REGEX MATCHALL "(ld|st)\\.local" locals "${text}")
string(REGEX MATCHALL "(ld|st)\\.(global\\.)?(nc\\.)?(v[24]\\.)?[usb]8" singles "${text}")
string(REGEX MATCHALL "(ld|st)\\.global\\.(nc\\.)?v2\\.[usb]64" wides "${text}")
list(LENGTH locals locals)
list(LENGTH singles singles)
list(LENGTH wides wides)
message("${locals} accesses of local memory, ${singles} of single bytes, ${wides} of 16 bytes")
# Single bytes: elements of a byte by run_all and run_tiles, and the types that a move names.
if(locals GREATER 0 OR singles GREATER 16 OR wides LESS 8)
  message(FATAL_ERROR "wanted: none of local memory, at most 16 of single bytes, 8 or more of 16 bytes")
endif()
