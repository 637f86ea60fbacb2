# SPDX-License-Identifier: MIT
# What `make install PREFIX=...` puts where.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS skio skio_hosted EXPORT skioTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${CMAKE_SOURCE_DIR}/include/ ${CMAKE_SOURCE_DIR}/hosted/include/
    DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(TARGETS skblk RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES ${CMAKE_SOURCE_DIR}/tools/skblk/skblk.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${CMAKE_SOURCE_DIR}/integrations/nbdkit/nbdkit-skio-plugin.1
    DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(TARGETS nbdkit-skio-plugin LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/nbdkit/plugins)

# CMake: find_package(skio), then skio::skio or skio::skio_hosted.
set(SKIO_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/skio)
install(EXPORT skioTargets NAMESPACE skio:: DESTINATION ${SKIO_PACKAGE_DIR})
configure_package_config_file(${CMAKE_SOURCE_DIR}/cmake/skioConfig.cmake.in
    ${CMAKE_BINARY_DIR}/skioConfig.cmake INSTALL_DESTINATION ${SKIO_PACKAGE_DIR})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/skioConfigVersion.cmake
    COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/skioConfig.cmake ${CMAKE_BINARY_DIR}/skioConfigVersion.cmake
    DESTINATION ${SKIO_PACKAGE_DIR})

# pkg-config: skio for kernels and processes, skio_hosted for processes.
foreach(name skio skio_hosted)
    configure_file(${CMAKE_SOURCE_DIR}/cmake/${name}.pc.in ${CMAKE_BINARY_DIR}/${name}.pc @ONLY)
    install(FILES ${CMAKE_BINARY_DIR}/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()
